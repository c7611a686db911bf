"""An agent cannot leave its sandbox by way of a subtask."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_conductor.errors import PermissionDeniedError
from claude_conductor.ids import DEFAULT_TENANT, TaskId
from controlplane.domain.confinement import confined
from controlplane.domain.task import IsolationLevel, IsolationStatus, ResourceLimits, Spec, State, Task, Workspace

STRICT, MODERATE, MINIMAL = IsolationLevel.STRICT, IsolationLevel.MODERATE, IsolationLevel.MINIMAL
FOLDER = Workspace("folder", "/srv/project")
PARENT = Task(TaskId("task_1"), DEFAULT_TENANT, Spec(workspace=FOLDER), State.RUNNING, "", 0.0, "operator")


def parent(asked: IsolationLevel | None, effective: IsolationLevel | None) -> Task:
    return replace(PARENT, spec=replace(PARENT.spec, isolation_level=asked), isolation=IsolationStatus(effective_level=effective))


@pytest.mark.parametrize(
    ("asked", "effective", "child"),
    [
        (None, STRICT, MINIMAL),
        (None, STRICT, MODERATE),
        (None, None, MODERATE),
        (STRICT, None, MINIMAL),
        (MODERATE, None, MINIMAL),
    ],
)
def test_a_subtask_is_never_isolated_less_than_its_parent(
    asked: IsolationLevel | None, effective: IsolationLevel | None, child: IsolationLevel
) -> None:
    with pytest.raises(PermissionDeniedError):
        confined(Spec(isolation_level=child), parent(asked, effective))


@pytest.mark.parametrize(
    ("asked", "effective", "child", "given"),
    [
        (None, STRICT, None, STRICT),
        (STRICT, None, None, STRICT),
        (MODERATE, MODERATE, None, MODERATE),
        (None, MINIMAL, None, None),
        (None, MINIMAL, STRICT, STRICT),
        (MINIMAL, MINIMAL, MINIMAL, MINIMAL),
    ],
)
def test_a_subtask_inherits_what_its_parent_was_given(
    asked: IsolationLevel | None, effective: IsolationLevel | None, child: IsolationLevel | None, given: IsolationLevel | None
) -> None:
    assert confined(Spec(isolation_level=child), parent(asked, effective)).isolation_level is given


def test_a_subtask_leaves_no_files_on_its_host() -> None:
    with pytest.raises(PermissionDeniedError):
        confined(Spec(keep_workspace=True), PARENT)


def test_a_subtask_sees_no_folder_of_the_host_but_its_parents() -> None:
    with pytest.raises(PermissionDeniedError):
        confined(Spec(workspace=Workspace("folder", "/etc")), PARENT)
    assert confined(Spec(workspace=FOLDER), PARENT).workspace == FOLDER


def test_a_subtask_clones_no_repository_but_its_parents() -> None:
    own = replace(PARENT, spec=replace(PARENT.spec, workspace=Workspace("git", "/srv/project")))

    assert confined(Spec(workspace=Workspace("git", "/srv/project", "main")), own).workspace.ref == "main"
    for other in (Workspace("git", "/srv/secret"), Workspace("git", "ssh://host/secret"), Workspace("folder", "/srv/project")):
        with pytest.raises(PermissionDeniedError):
            confined(Spec(workspace=other), own)


def test_a_subtask_gets_no_more_than_its_parent() -> None:
    own = replace(PARENT, spec=replace(PARENT.spec, limits=ResourceLimits(memory_bytes=100, cpus=1.0)))

    assert confined(Spec(limits=ResourceLimits(memory_bytes=1000, cpus=0.5, pids=9)), own).limits == ResourceLimits(100, 0.5)
    assert confined(Spec(), own).limits == ResourceLimits(100, 1.0)
    assert confined(Spec(limits=ResourceLimits(memory_bytes=1 << 50)), PARENT).limits == ResourceLimits()

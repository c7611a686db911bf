"""Which tasks may not run together because of what they write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId, TenantId
from controlplane.domain.agent import Agent, State
from controlplane.domain.caps import Caps
from controlplane.domain.lane import lane_of
from controlplane.domain.placement import plan
from controlplane.domain.task import IsolationLevel, Spec, Task, Workspace
from controlplane.domain.task import State as TaskState
from controlplane.domain.write_set import Writers, claim_of, declared, fault, place_of

REPO = Workspace("git", "/work/repo")


def task(number: int, *writes: str, tenant: str = DEFAULT_TENANT, **spec: Any) -> Task:
    asked = Spec(**{"driver": "command", "workspace": REPO, "writes": declared(writes), **spec})
    made = Task(
        TaskId(f"task_{number}"), TenantId(tenant), asked, TaskState.QUEUED, "", 0.0, "operator", queue_time=float(number)
    )
    return replace(made, lane=lane_of(made, Caps()))


def agents(count: int) -> list[Agent]:
    return [
        Agent(AgentId(f"a{n}"), DEFAULT_TENANT, Incarnation("i"), State.IDLE, 0.0, "", drivers=("command",),
              strongest_level=IsolationLevel.STRICT)
        for n in range(count)
    ]  # fmt: skip


def planned(ready: list[Task], free: int, *held: Task) -> list[str]:
    return [one.id for one, _ in plan(ready, agents(free), claims={each.id: claim_of(each) for each in held})]


def test_of_two_that_overlap_the_later_waits_and_hides_nobody() -> None:
    assert planned([task(1, "src/"), task(2, "src/a.py"), task(3, "docs/"), task(4)], 4) == ["task_1", "task_3", "task_4"]


def test_one_that_an_agent_has_keeps_the_others_waiting() -> None:
    assert planned([task(2, "src/a.py"), task(3, "docs/")], 2, task(1, "src/")) == ["task_3"]


@pytest.mark.parametrize(
    "other",
    [
        task(2, "src/", workspace=Workspace("git", "/work/other")),
        task(2, "src/", tenant="other"),
        task(2),
        task(2, "docs/"),
    ],
)
def test_another_repository_or_tenant_or_nothing_declared_is_no_hindrance(other: Task) -> None:
    assert Writers({TaskId("task_1"): claim_of(task(1, "src/"))}).before(other) is None


def test_who_waits_for_its_files_is_not_passed_by_those_that_would_keep_it_waiting() -> None:
    everything, small, apart = task(2, "."), task(3, "docs/"), task(4)
    assert planned([everything, small, apart], 3, task(1, "src/")) == ["task_4"]
    assert planned([everything, small], 3) == ["task_2"]


def test_who_waits_for_an_agent_keeps_nobody_from_the_files() -> None:
    assert planned([task(2, ".", driver="none"), task(3, "docs/")], 2, task(1, "src/")) == ["task_3"]


def test_a_parent_is_no_hindrance_to_its_children_nor_to_theirs() -> None:
    parent, child = task(1, "src/"), task(2, "src/a.py", parent_task_id="task_1")
    grandchild = task(3, "src/a.py", parent_task_id="task_2")
    undeclared = task(2, parent_task_id="task_1")
    assert planned([child], 1, parent) == ["task_2"]
    assert planned([grandchild], 1, parent, child) == ["task_3"]
    assert planned([grandchild], 1, parent, undeclared) == ["task_3"]


def test_two_children_of_one_parent_keep_each_other_waiting() -> None:
    parent = task(1, "src/")
    children = [task(number, "src/a.py", parent_task_id="task_1") for number in (2, 3)]
    assert planned(children, 2, parent) == ["task_2"]


def test_a_child_does_not_wait_for_one_that_waits_for_its_parent() -> None:
    parent, other, child = task(1, "src/"), task(2, "src/"), task(3, "src/", parent_task_id="task_1")
    assert planned([other, child], 2, parent) == ["task_3"]


def test_the_reason_names_the_task_and_the_path() -> None:
    writers = Writers({TaskId("task_1"): claim_of(task(1, "docs/", "src/"))})
    assert writers.why(task(2, "src/a.py")) == "waits for task_1, which writes src/ too"
    assert writers.why(task(2, "tests/")) == ""


def test_tasks_of_one_lane_can_go_or_not_together() -> None:
    alike = task(1, "src/")
    assert alike.lane == task(2, "./src//").lane
    assert alike.lane == task(2, "src/", workspace=Workspace("git", "/work/repo/")).lane
    others = [
        task(2),
        task(2, "src"),
        task(2, "src/", parent_task_id="task_1"),
        task(2, "src/", workspace=Workspace("git", "/x")),
    ]
    assert len({alike.lane, *(other.lane for other in others)}) == 5
    assert task(1).lane == task(2, workspace=Workspace("git", "/x")).lane
    assert task(1, parent_task_id="task_1").lane == task(2, parent_task_id="task_2").lane


@pytest.mark.parametrize(
    "location",
    ["/work/repo", "/work/repo/", "/work//repo", "/work/x/../repo", "/work/repo/.git", "/work/repo.git", "file:///work/repo"],
)
def test_a_repository_is_the_same_however_it_is_written(location: str) -> None:
    assert place_of(Workspace("git", location)) == "/work/repo"


def test_a_set_is_kept_in_one_form() -> None:
    assert declared(["src//", "./src/", "docs/*.md"]) == ("docs/*.md", "src/")
    assert declared(["src/", "."]) == ("**",)
    assert declared([]) == ()


@pytest.mark.parametrize(
    ("patterns", "workspace", "words"),
    [
        ((), Workspace(), ""),
        (("src/",), REPO, ""),
        (("src/",), Workspace(), "this task has none"),
        (("src/",), Workspace("folder", "/x"), "this task has none"),
        (("src/", "/etc/"), REPO, "from its top: `src/`, not `/home/me/project/src/`. (`/etc/`)"),
        (("../x",), REPO, "leads out"),
        (tuple(f"f{number}" for number in range(101)), REPO, "name folders instead of files"),
        (("x" * 4097,), REPO, "name folders instead of files"),
    ],
)
def test_what_cannot_be_a_write_set_says_why(patterns: tuple[str, ...], workspace: Workspace, words: str) -> None:
    said = fault(patterns, workspace)
    assert words in said
    assert bool(said) == bool(words)

"""What nobody could take is named by its field; what only nobody here has is not refused."""

from __future__ import annotations

import math

import pytest

from controlplane.domain.sound import faults
from controlplane.domain.task import ResourceLimits, Spec, Workspace


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (Spec(limits=ResourceLimits(cpus=math.nan)), "spec.isolation.limits.cpus"),
        (Spec(limits=ResourceLimits(cpus=math.inf)), "spec.isolation.limits.cpus"),
        (Spec(limits=ResourceLimits(cpus=0.009)), "spec.isolation.limits.cpus"),
        (Spec(command=("", "x")), "spec.command"),
        (Spec(command=("x", "\0")), "spec.command"),
        (Spec(environment={"A": "\0"}), "spec.command"),
        (Spec(environment={"A=": ""}), "spec.environment"),
        (Spec(labels={"": ""}), "spec.labels"),
        (Spec(required_labels={str(number): "" for number in range(101)}), "spec.required_labels"),
        (Spec(agent_id="a b"), "spec.agent_id"),
        (Spec(workspace=Workspace("git", "--x")), "spec.workspace"),
        (Spec(workspace=Workspace("git", "/x", "-x")), "spec.workspace"),
        (Spec(workspace=Workspace("folder", "x")), "spec.workspace.folder.path"),
    ],
)
def test_what_nobody_could_take_is_named(spec: Spec, field: str) -> None:
    assert [name for name, _ in faults(spec)] == [field]


@pytest.mark.parametrize(
    "spec",
    [
        Spec(),
        Spec(limits=ResourceLimits(1 << 62, 1e6, 1 << 40, 1 << 62)),
        Spec(limits=ResourceLimits(cpus=0.01)),
        Spec(command=("sh", "-c", ""), environment={"A": "x=y", "B": ""}, labels={"a": ""}, agent_id="agent-1"),
        Spec(workspace=Workspace("git", "git@example.org:x/y.git", "feature/-x")),
        Spec(workspace=Workspace("folder", "/a b/ü")),
    ],
)
def test_what_somebody_could_take_is_not_refused(spec: Spec) -> None:
    assert list(faults(spec)) == []

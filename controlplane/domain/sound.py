"""Which values of a task could no agent, kernel or program take?

Limits that are merely larger than anybody has are not among them: such a task waits, and says for what.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from controlplane.domain.task import Spec

LEAST_CPUS: Final = 0.01
"""Processors: the kernel's quota is 1 ms of 100 at least (cgroups(7), cpu.max)."""
MOST_LABELS: Final = 100


def faults(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield each value that nobody could take, as the name of its field and what is allowed there."""
    cpus, workspace = spec.limits.cpus, spec.workspace
    if not math.isfinite(cpus):
        yield "spec.isolation.limits.cpus", "A processor share is a finite number such as 0.5 or 2 (--cpus)."
    elif 0 < cpus < LEAST_CPUS:
        yield "spec.isolation.limits.cpus", f"A processor share is at least {LEAST_CPUS:g} (--cpus): the kernel gives no less."
    if spec.command and not spec.command[0]:
        yield "spec.command", "A command begins with the name of a program (--cmd)."
    if any("\0" in part for part in (*spec.command, *spec.environment, *spec.environment.values(), spec.model)):
        yield "spec.command", "A command, an environment and a model hold no NUL: no program could be given one."
    if any(not name or "=" in name for name in spec.environment):
        yield "spec.environment", "A variable of the environment has a name, and no `=` in it."
    for field, labels in (("spec.labels", spec.labels), ("spec.required_labels", spec.required_labels)):
        if "" in labels:
            yield field, "A label has a name (NAME=VALUE)."
        if len(labels) > MOST_LABELS:
            yield field, f"A task has at most {MOST_LABELS} labels."
    if spec.agent_id and (not spec.agent_id.isprintable() or " " in spec.agent_id):
        yield "spec.agent_id", "The id of an agent is one printable word (`conductor agents list`)."
    if workspace.location.startswith("-") or workspace.ref.startswith("-"):
        yield "spec.workspace", "A location or a ref does not begin with `-`: git would take it for an option."
    if workspace.kind == "folder" and workspace.location and not workspace.location.startswith("/"):
        yield "spec.workspace.folder.path", "A folder is named by its whole path: an agent's host knows no other (--folder)."

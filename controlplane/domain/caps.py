"""How many tasks of a sort may be with agents at once?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_conductor.ids import TenantId
from controlplane.domain.task import Task

EACH = "*"
"""As a name in the settings: each one that is not named, by itself."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most tasks at once, by tenant, by type and by label (`name=value`); `*` stands for each that is not named.

    Types and labels count within their tenant: what one tenant calls its tasks takes nothing from another.
    """

    tenants: Mapping[str, int] = field(default_factory=dict)
    types: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that count together: those of a tenant (`kind` and `name` are empty), of one type or label of it, or of a group."""

    tenant_id: TenantId
    kind: str = ""
    name: str = ""


def capped(task: Task, caps: Caps) -> dict[Group, int]:
    """Return what the task counts with that has a cap, each with its cap; a group of subtasks brings its own (`parallel`)."""
    spec, found = task.spec, dict[Group, int | None]()
    found[Group(task.tenant_id)] = caps.tenants.get(task.tenant_id, caps.tenants.get(EACH))
    found[Group(task.tenant_id, "type", spec.type)] = caps.types.get(spec.type, caps.types.get(EACH))
    for name, value in sorted(spec.labels.items()):
        label = f"{name}={value}"
        found[Group(task.tenant_id, "label", label)] = caps.labels.get(label, caps.labels.get(f"{name}={EACH}"))
    if task.parallel:
        found[Group(task.tenant_id, "group", spec.parent_task_id)] = task.parallel
    return {group: most for group, most in found.items() if most is not None}


def full(task: Task, caps: Caps, counts: Mapping[Group, int]) -> str:
    """Return in one sentence which cap keeps the task waiting, given how many of each group are with agents; empty if none."""
    for group, most in capped(task, caps).items():
        if counts.get(group, 0) >= most:
            if not group.kind:
                return f"waits for a place: tenant {group.tenant_id} has {most} of {most} (`tasks.concurrency.tenants`)"
            if group.kind == "group":
                return f"waits for a place: its group {group.name} has {most} of {most} subtasks with agents (`parallel`)"
            return f"waits for a place: {group.kind} {group.name} has {most} of {most} (`tasks.concurrency.{group.kind}s`)"
    return ""

"""What may an agent have done in the name of its task?"""

from __future__ import annotations

from dataclasses import replace

from claude_conductor.egress import beyond, rules
from claude_conductor.errors import PermissionDeniedError
from controlplane.domain.task import IsolationLevel, ResourceLimits, Spec, Task


def confined(spec: Spec, parent: Task) -> Spec:
    """Return what an agent may have done in the name of its task: it cannot leave its sandbox by way of a subtask.

    Raises:
        PermissionDeniedError: Weaker isolation than its own, a folder or repository that it was not given itself, or files that
            stay on its host.
    """
    own = parent.spec.isolation_level or parent.isolation.effective_level
    asked = spec.isolation_level
    if asked is not None and asked.rank < (own or IsolationLevel.STRICT).rank:
        raise PermissionDeniedError(
            "A subtask is isolated at least as far as the task it belongs to.",
            next_step="leave its isolation level open",
            field="spec.isolation.level",
        )
    source, given = spec.workspace, parent.spec.workspace
    if source.kind != "empty" and (source.kind, source.location) != (given.kind, given.location):
        raise PermissionDeniedError(
            "An agent names no folder or repository but that of its own task.",
            next_step="give the parent task this workspace, or submit the subtask with an empty one",
            field="spec.workspace",
        )
    if further := beyond(rules(spec.allow), rules(parent.spec.allow)):
        raise PermissionDeniedError(
            f"A subtask reaches no host that its parent may not reach: {', '.join(map(str, further[:5]))}.",
            next_step="allow it to the parent task, or leave the list of hosts open",
            field="spec.isolation.allow",
        )
    if spec.keep_workspace:
        raise PermissionDeniedError(
            "The files of an agent's subtask are not kept.", next_step="leave `keep_workspace` out", field="spec.keep_workspace"
        )
    if asked is None:
        asked = own if own is IsolationLevel.STRICT else parent.spec.isolation_level
    return replace(spec, isolation_level=asked, limits=_bounded(spec.limits, parent.spec.limits))


def _bounded(asked: ResourceLimits, own: ResourceLimits) -> ResourceLimits:
    """Return limits within those of the parent; where it has none of its own, those of the slot hold."""
    return ResourceLimits(
        memory_bytes=min(asked.memory_bytes, own.memory_bytes) or own.memory_bytes,
        cpus=min(asked.cpus, own.cpus) or own.cpus,
        pids=min(asked.pids, own.pids) or own.pids,
        workspace_bytes=min(asked.workspace_bytes, own.workspace_bytes) or own.workspace_bytes,
    )

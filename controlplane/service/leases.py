"""Which tasks are held by whom, and until when?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.ids import AgentId, Incarnation, TaskId, TenantId
from controlplane.domain.task import Lease, Task

TAKEN: Final = 1000
"""Leases that were taken away and that their holders may not know of yet; older ones are forgotten."""


@dataclass(slots=True)
class Held:
    """A lease in force. `deadline` in seconds of the monotonic clock."""

    lease: Lease
    tenant_id: TenantId
    agent_id: AgentId
    incarnation: Incarnation
    deadline: float


class Leases:
    """The leases in force. Deadlines are monotonic and start anew with this process, so no clock jump and no restart ends one."""

    def __init__(self, clock: Clock, duration: float) -> None:
        """Begin with none.

        Args:
            clock: Whose monotonic time counts.
            duration: Seconds a lease lasts without renewal.
        """
        self._clock = clock
        self.duration = duration
        self.version = 0
        """Grows whenever a task gets into other hands."""
        self._held: dict[TaskId, Held] = {}
        self._taken: dict[Lease, None] = {}

    def arm(self, task: Task) -> None:
        """Start the lease of a held task, in place of an older one of that task."""
        if task.lease is None:
            return
        deadline = self._clock.monotonic() + self.duration
        self.version += 1
        self._held[task.id] = Held(task.lease, task.tenant_id, task.agent_id, task.incarnation, deadline)

    def renew(self, lease: Lease, tenant_id: TenantId, agent_id: AgentId) -> bool:
        """Start the lease's time anew; return False if it is not in force or another agent's."""
        held = self._held.get(lease.task_id)
        if held is None or held.lease != lease or (held.tenant_id, held.agent_id) != (tenant_id, agent_id):
            return False
        held.deadline = self._clock.monotonic() + self.duration
        return True

    def renew_all(self) -> None:
        """Start every lease's time anew."""
        deadline = self._clock.monotonic() + self.duration
        for held in self._held.values():
            held.deadline = deadline

    def release(self, task_id: TaskId, *, taken: bool = False) -> None:
        """Forget the lease of a task, if there is one; `taken` if its holder did not hand it back itself."""
        held = self._held.pop(task_id, None)
        if held is not None:
            self.version += 1
            if taken:
                self._taken[held.lease] = None
                while len(self._taken) > TAKEN:
                    del self._taken[next(iter(self._taken))]

    def missed(self, lease: Lease) -> bool:
        """Return whether this lease was taken away and its holder shows only now that it missed that; true once."""
        return self._taken.pop(lease, self) is None

    def release_if(self, held: Held) -> None:
        """Forget exactly this lease; a newer one of the task stays."""
        if self._held.get(held.lease.task_id) is held:
            self.release(held.lease.task_id)

    def get(self, task_id: str) -> Held | None:
        """Return the lease in force of this task."""
        return self._held.get(TaskId(task_id))

    def of_agent(self, tenant_id: TenantId, agent_id: AgentId) -> list[Held]:
        """Return the leases this agent holds."""
        return [held for held in self._held.values() if held.agent_id == agent_id and held.tenant_id == tenant_id]

    def of_tenant(self, tenant_id: TenantId) -> list[Held]:
        """Return the leases of a tenant's tasks."""
        return [held for held in self._held.values() if held.tenant_id == tenant_id]

    def expired(self) -> Sequence[Held]:
        """Return the leases whose time is over."""
        now = self._clock.monotonic()
        return [held for held in self._held.values() if held.deadline <= now]

    def next_deadline(self) -> float | None:
        """Return the earliest deadline in monotonic seconds, or None."""
        return min((held.deadline for held in self._held.values()), default=None)

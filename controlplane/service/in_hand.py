"""How many tasks are with agents, by what caps and fair shares count, and what may they write?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from claude_conductor.ids import TaskId
from controlplane.domain.agent import Agent
from controlplane.domain.caps import Caps, Group, capped, full
from controlplane.domain.room import Rooms, asks
from controlplane.domain.task import ResourceLimits, Task
from controlplane.domain.write_set import Claim, Writers, claim_of


class InHand:
    """Counts what the leases in force hold. It follows the tasks' changes and is not stored: a restart counts anew."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self._groups: dict[TaskId, tuple[Group, ...]] = {}
        self._counts: Counter[Group] = Counter()
        self._claims: dict[TaskId, Claim] = {}
        self._asked: dict[TaskId, ResourceLimits] = {}

    def took(self, task: Task) -> None:
        """Count a task that an agent was given; counting it twice is harmless."""
        self.released(task.id)
        groups = tuple({Group(task.tenant_id), *capped(task, self.caps)})
        self._groups[task.id] = groups
        self._counts.update(groups)
        self._claims[task.id] = claim_of(task)
        if asks(task):
            self._asked[task.id] = task.spec.limits

    def released(self, task_id: TaskId) -> None:
        """Stop counting a task, if it was counted."""
        self._claims.pop(task_id, None)
        self._asked.pop(task_id, None)
        for group in self._groups.pop(task_id, ()):
            self._counts[group] -= 1
            if not self._counts[group]:
                del self._counts[group]

    @property
    def counts(self) -> Mapping[Group, int]:
        """How many tasks of each group are with agents: of every tenant, and of what has a cap."""
        return self._counts

    @property
    def claims(self) -> Mapping[TaskId, Claim]:
        """What the tasks that are with agents may write."""
        return self._claims

    def rooms(self, agents: Iterable[Agent]) -> Rooms:
        """Return what hosts have left, given all agents that are connected or have a task."""
        return Rooms(agents, self._asked)

    def full(self, task: Task) -> str:
        """Return which cap, or which task that writes the same files, keeps the task waiting; empty if none does."""
        return full(task, self.caps, self._counts) or Writers(self._claims).why(task)

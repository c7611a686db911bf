"""Why does a task wait?"""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.clock import Clock
from controlplane.domain.agent import Agent
from controlplane.domain.blocked import why_blocked
from controlplane.domain.placement import able, possible, why_waiting
from controlplane.domain.room import asks
from controlplane.domain.task import State, Task
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.in_hand import InHand
from controlplane.service.registry import Registry


class Waiting:
    """Explains waiting tasks by the time, the agents that are connected now and the caps; nothing of it is stored."""

    def __init__(self, store: TaskStore, registry: Registry, in_hand: InHand, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._in_hand = in_hand
        self._clock = clock

    def reason(self, task: Task) -> str:
        """Return in one sentence why the task stands where it does."""
        if task.state is State.BLOCKED:
            return why_blocked(task, self._clock.now())
        if task.state is not State.QUEUED:
            return task.reason
        known = not task.spec.agent_id or self._registry.find(task.tenant_id, task.spec.agent_id) is not None
        agents = self._agents(task)
        closed = self._registry.windows.why(task, able(task, agents))
        rooms = self._in_hand.rooms(self._registry.present()) if asks(task) else None
        return why_waiting(task, agents, known=known, full=self._in_hand.full(task), closed=closed, rooms=rooms)

    def reasons(self, tasks: Sequence[Task]) -> list[str]:
        """Return the reason of each; queued tasks of one lane wait for the same, which is found once."""
        found: dict[str, str] = {}

        def one(task: Task) -> str:
            if task.state is not State.QUEUED:
                return self.reason(task)
            if task.lane not in found:
                found[task.lane] = self.reason(task)
            return found[task.lane]

        return [one(task) for task in tasks]

    async def explain(self, task: Task) -> str:
        """Return the reason, with how many go first where that matters.

        Raises:
            StoreUnavailableError: The queue cannot be read.
        """
        reason = self.reason(task)
        if task.state is not State.QUEUED or self._in_hand.full(task) or not possible(task, self._agents(task)):
            return reason
        ahead = await self._store.ahead(task)
        return f"{reason}; {ahead} task{'s are' if ahead > 1 else ' is'} before it in the queue" if ahead else reason

    def _agents(self, task: Task) -> list[Agent]:
        return [agent for agent in self._registry.live_agents() if agent.tenant_id == task.tenant_id]

"""Why does a queued task wait?"""

from __future__ import annotations

from controlplane.domain.placement import why_waiting
from controlplane.domain.task import Task
from controlplane.service.in_hand import InHand
from controlplane.service.registry import Registry


class Waiting:
    """Explains queued tasks by the agents that are connected now and the caps; nothing of it is stored."""

    def __init__(self, registry: Registry, in_hand: InHand) -> None:
        self._registry = registry
        self._in_hand = in_hand

    def reason(self, task: Task) -> str:
        """Return in one sentence what the task waits for."""
        agents = [agent for agent in self._registry.live_agents() if agent.tenant_id == task.tenant_id]
        known = not task.spec.agent_id or self._registry.find(task.tenant_id, task.spec.agent_id) is not None
        return why_waiting(task, agents, known=known, full=self._in_hand.full(task))

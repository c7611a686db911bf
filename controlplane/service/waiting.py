"""Why does a queued task wait?"""

from __future__ import annotations

from controlplane.domain.placement import why_waiting
from controlplane.domain.task import Task
from controlplane.service.registry import Registry


class Waiting:
    """Explains queued tasks by the agents that are connected now; nothing of it is stored."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def reason(self, task: Task) -> str:
        """Return in one sentence what the task waits for."""
        return why_waiting(task, self._registry.live_agents())

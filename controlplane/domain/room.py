"""How much of each host is promised to nobody, and is there room for a task?

What counts is what was promised, not what is used at the moment: an agent may use all of its limits a second later. A task that
asks for nothing of its own is given what its agent's settings say, and waits for no room; but what it was given counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from claude_conductor.ids import TaskId
from claude_conductor.units import format_size
from controlplane.domain.agent import Agent
from controlplane.domain.task import ResourceLimits, Task


@dataclass(frozen=True, slots=True)
class _Kind:
    """A resource that agents of one host share."""

    name: str
    """Of the field of ResourceLimits."""
    words: str

    def of(self, limits: ResourceLimits) -> float:
        return float(getattr(limits, self.name))

    def say(self, amount: float) -> str:
        return format_size(int(amount)) if self.name == "memory_bytes" else f"{amount:g}"


_KINDS: Final = (_Kind("memory_bytes", "of memory"), _Kind("cpus", "processors"), _Kind("pids", "processes"))


def asks(task: Task) -> bool:
    """Tell whether the task asks for something that hosts run out of."""
    return any(kind.of(task.spec.limits) for kind in _KINDS)


_Host = tuple[str, ResourceLimits]


def _host(agent: Agent) -> _Host:
    return agent.host, agent.capacity


class Rooms:
    """What hosts have left. Agents of one host are those whose sidecars name the same one and say the same of what it has."""

    def __init__(self, agents: Iterable[Agent], asked: Mapping[TaskId, ResourceLimits]) -> None:
        """Count what is promised.

        Args:
            agents: All that are connected or have a task, of every tenant.
            asked: What the tasks asked for that are with agents.
        """
        self._promised: dict[tuple[_Host, str], float] = {}
        self._by_task: dict[str, tuple[_Host, dict[str, float]]] = {}
        self._kept: set[_Host] = set()
        for agent in agents:
            if agent.task_id or agent.long_running:  # the sandbox of a long-running agent is there without a task, too
                self._promise(agent, agent.task_id, asked.get(TaskId(agent.task_id), ResourceLimits()))

    def take(self, task: Task, agent: Agent) -> None:
        """Promise the task what it asks for, on the agent's host."""
        if not agent.long_running:
            self._promise(agent, task.id, task.spec.limits)

    def _promise(self, agent: Agent, task_id: str, asked: ResourceLimits) -> None:
        shares = {}
        for kind in _KINDS:
            own = kind.of(agent.default_limits)
            share = own if agent.long_running else kind.of(asked) or own
            key = (_host(agent), kind.name)
            self._promised[key] = self._promised.get(key, 0.0) + share
            shares[kind.name] = share
        if task_id:
            self._by_task[task_id] = (_host(agent), shares)

    def lacking(self, task: Task, agent: Agent) -> str:
        """Return what of the agent's host is taken by others, with what is left of it; empty if there is room.

        What its parent was promised is no hindrance to a task: the parent may wait for it.
        """
        if agent.long_running:  # it is in its sandbox already
            return ""
        host = _host(agent)
        parent_host, parents = self._by_task.get(task.spec.parent_task_id, (None, {}))
        for kind in _KINDS:
            asked, total = kind.of(task.spec.limits), kind.of(agent.capacity)
            if not asked or not total:
                continue
            free = total - self._promised.get((host, kind.name), 0.0)
            free += parents.get(kind.name, 0.0) if parent_host == host else 0.0
            if asked > free + 1e-9:
                left = f"{agent.host or agent.id} has {kind.say(max(0.0, free))} left of {kind.say(total)}"
                return f"waits for {kind.say(asked)} {kind.words}: {left}"
        return ""

    def keep(self, agent: Agent) -> None:
        """Keep the agent's host for a task whose turn it is, until there is room for it."""
        self._kept.add(_host(agent))

    def closed(self, task: Task, agent: Agent) -> bool:
        """Tell whether the agent's host is kept for another task; subtasks are let through if their parents hold resources."""
        held_by_parent = bool(task.spec.parent_task_id) and task.parallel is None
        return _host(agent) in self._kept and not held_by_parent

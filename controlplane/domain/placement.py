"""Which free agent shall work on which ready task?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.domain.agent import Agent
from controlplane.domain.task import Task


def obstacle(task: Task, agent: Agent) -> str:
    """Return why the agent cannot work on the task, or an empty text if it can. Whether it is free is another question."""
    spec = task.spec
    if agent.tenant_id != task.tenant_id:
        return "belongs to another tenant"
    if spec.agent_id and spec.agent_id != agent.id:
        return f"is not {spec.agent_id}"
    if spec.driver not in agent.drivers:
        return f"cannot run {spec.driver}"
    for name, value in spec.required_labels.items():
        if agent.labels.get(name) != value:
            return f"does not have the label {name}={value}"
    if spec.isolation_level is not None:
        strongest = agent.strongest_level
        if strongest is None or strongest.rank < spec.isolation_level.rank:
            return f"cannot isolate at {spec.isolation_level.value}"
    return ""


def place(task: Task, free: Iterable[Agent]) -> Agent | None:
    """Return the agent that shall work on the task, or None.

    Specialists are spared: among those that can, the one with the fewest drivers and labels goes first, then the one that has
    been idle for longest.
    """
    able = [agent for agent in free if not obstacle(task, agent)]
    return min(able, key=lambda agent: (len(agent.drivers) + len(agent.labels), agent.state_time, agent.id), default=None)


def plan(ready: Sequence[Task], free: Iterable[Agent]) -> list[tuple[Task, Agent]]:
    """Return who gets what: tasks in their order, each agent once. A task nobody free can do holds up no other."""
    left = {(agent.tenant_id, agent.id): agent for agent in free}
    placed: list[tuple[Task, Agent]] = []
    for task in ready:
        if not left:
            break
        agent = place(task, left.values())
        if agent is not None:
            del left[agent.tenant_id, agent.id]
            placed.append((task, agent))
    return placed


def why_waiting(task: Task, agents: Sequence[Agent]) -> str:
    """Return in one sentence what a queued task waits for, given every connected agent."""
    if not agents:
        return "waits for an agent: none is connected"
    obstacles = {agent.id: obstacle(task, agent) for agent in agents}
    if not all(obstacles.values()):
        return "waits for a free agent"
    listed = "; ".join(f"{agent_id} {reason}" for agent_id, reason in sorted(obstacles.items())[:3])
    return f"no connected agent can do it: {listed}"

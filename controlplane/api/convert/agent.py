"""How do agents travel?"""

from __future__ import annotations

from typing import Final

from claude_conductor.v1 import agent_pb2 as pb
from controlplane.api.convert import isolation
from controlplane.api.convert.values import timestamp
from controlplane.domain.agent import Agent, ResourceUse, State

STATES: Final = {state: pb.AgentState.Value(f"AGENT_STATE_{state.name}") for state in State}
STATES_BACK: Final[dict[int, State]] = {number: state for state, number in STATES.items()}


def agent_to_proto(agent: Agent, *, for_peers: bool = False) -> pb.Agent:
    """Return the agent as clients see it; peers learn nothing about its host."""
    shown = pb.Agent(
        agent_id=agent.id,
        tenant_id=agent.tenant_id,
        drivers=agent.drivers,
        labels=agent.labels,
        state=STATES[agent.state],
        state_time=timestamp(agent.state_time),
        state_reason=agent.state_reason,
        task_id=agent.task_id,
        isolation=isolation.status_to_proto(agent.isolation),
        use=pb.ResourceUse(memory_bytes=agent.use.memory_bytes, cpu_seconds=agent.use.cpu_seconds, pids=agent.use.pids),
        strongest_level=isolation.level_to_proto(agent.strongest_level),
    )
    if not for_peers:
        shown.incarnation = agent.incarnation
        shown.sidecar_pid = agent.sidecar_pid
        shown.host = agent.host
        shown.version = agent.version
    return shown


def use_from_proto(use: pb.ResourceUse) -> ResourceUse:
    """Return what an agent uses at present."""
    return ResourceUse(use.memory_bytes, use.cpu_seconds, use.pids)

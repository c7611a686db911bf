"""Which agents there ever were, as long as the process lives."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.ids import AgentId, TenantId
from controlplane.domain.agent import Agent


class MemoryAgentStore:
    """An AgentStore in a dictionary."""

    def __init__(self) -> None:
        self._agents: dict[tuple[TenantId, AgentId], Agent] = {}

    async def put(self, agent: Agent) -> None:
        """See AgentStore."""
        self._agents[agent.tenant_id, agent.id] = agent

    async def remove(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """See AgentStore."""
        self._agents.pop((tenant_id, agent_id), None)

    async def get(self, tenant_id: TenantId, agent_id: AgentId) -> Agent | None:
        """See AgentStore."""
        return self._agents.get((tenant_id, agent_id))

    async def all(self) -> Sequence[Agent]:
        """See AgentStore."""
        return [self._agents[key] for key in sorted(self._agents)]

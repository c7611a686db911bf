"""Which agents there ever were, in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.ids import AgentId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.redis.server import Server
from controlplane.domain.agent import Agent


class RedisAgentStore:
    """An AgentStore in one hash."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._key = server.key("g", "agents")

    async def put(self, agent: Agent) -> None:
        """See AgentStore."""
        await self._server.write("HSET", self._key, _field(agent.tenant_id, agent.id), encode(agent))

    async def remove(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """See AgentStore."""
        await self._server.write("HDEL", self._key, _field(tenant_id, agent_id))

    async def get(self, tenant_id: TenantId, agent_id: AgentId) -> Agent | None:
        """See AgentStore."""
        body = await self._server.ask("HGET", self._key, _field(tenant_id, agent_id))
        return decode(Agent, body) if body is not None else None

    async def all(self) -> Sequence[Agent]:
        """See AgentStore."""
        agents = [decode(Agent, body) for body in await self._server.ask("HVALS", self._key)]
        return sorted(agents, key=lambda agent: (agent.tenant_id, agent.id))


def _field(tenant_id: TenantId, agent_id: AgentId) -> str:
    return f"{tenant_id}/{agent_id}"

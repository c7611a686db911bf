"""Which agents there ever were, in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.ids import AgentId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.sqlite.database import Database
from controlplane.domain.agent import Agent


class SqliteAgentStore:
    """An AgentStore with a row for each agent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, agent: Agent) -> None:
        """See AgentStore."""
        row = (agent.tenant_id, agent.id, encode(agent))
        await self._database.write(lambda db: db.execute("INSERT OR REPLACE INTO agents VALUES (?, ?, ?)", row).rowcount)

    async def remove(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """See AgentStore."""
        sql = "DELETE FROM agents WHERE tenant = ? AND id = ?"
        await self._database.write(lambda db: db.execute(sql, (tenant_id, agent_id)).rowcount)

    async def get(self, tenant_id: TenantId, agent_id: AgentId) -> Agent | None:
        """See AgentStore."""
        sql = "SELECT body FROM agents WHERE tenant = ? AND id = ?"
        row = await self._database.read(lambda db: db.execute(sql, (tenant_id, agent_id)).fetchone())
        return decode(Agent, row[0]) if row else None

    async def all(self) -> Sequence[Agent]:
        """See AgentStore."""
        rows = await self._database.read(lambda db: db.execute("SELECT body FROM agents ORDER BY tenant, id").fetchall())
        return [decode(Agent, body) for (body,) in rows]

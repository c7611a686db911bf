"""Which agents there ever were: what survives a restart of the control plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from claude_conductor.ids import AgentId, TenantId
from controlplane.domain.agent import Agent


class AgentStore(Protocol):
    """Durable agents. All methods may be called concurrently; each is atomic."""

    async def put(self, agent: Agent) -> None:
        """Store the agent, replacing what was there. Last one wins."""

    async def remove(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """Forget the agent; nothing happens if it is not there."""

    async def get(self, tenant_id: TenantId, agent_id: AgentId) -> Agent | None:
        """Return the agent, or None."""

    async def all(self) -> Sequence[Agent]:
        """Return every agent of every tenant, by (tenant, id)."""

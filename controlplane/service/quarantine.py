"""What happens to an agent that is taken out?"""

from __future__ import annotations

import logging

from claude_conductor.clock import Clock
from claude_conductor.ids import AgentId, TenantId
from controlplane.domain.events import Event
from controlplane.service.identities import Identities
from controlplane.service.leases import Leases
from controlplane.service.registry import Registry
from controlplane.service.sessions import Sessions
from controlplane.service.watch import Watch

_log = logging.getLogger(__name__)


class Quarantine:
    """Takes agents out, and lets them in again."""

    def __init__(
        self, identities: Identities, sessions: Sessions, registry: Registry, leases: Leases, watch: Watch, clock: Clock
    ) -> None:
        self._identities = identities
        self._sessions = sessions
        self._registry = registry
        self._leases = leases
        self._watch = watch
        self._clock = clock

    async def begin(self, tenant_id: TenantId, agent_id: AgentId, reason: str) -> None:
        """Take an agent out.

        In this order: nothing more is taken from it, its streams end, what it had is revoked, its task goes on elsewhere.

        Raises:
            StoreUnavailableError: It is out, but the store has not heard of it: a restart would let it in.
        """
        connected = self._registry.connected(tenant_id, agent_id)
        if connected is not None:
            connected.ready = False
        await self._identities.quarantine(tenant_id, agent_id, reason)
        for held in self._leases.of_agent(tenant_id, agent_id):
            await self._sessions.lose(held, f"its agent was taken out: {reason}")
        self._tell("agent.quarantined", tenant_id, agent_id, f"{agent_id} was taken out: {reason}")

    async def end(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """Let an agent in again."""
        await self._identities.lift(tenant_id, agent_id)
        self._tell("agent.released", tenant_id, agent_id, f"{agent_id} may come in again")

    def _tell(self, kind: str, tenant_id: TenantId, agent_id: AgentId, summary: str) -> None:
        _log.warning("an agent's standing changed", extra={"agent": agent_id, "event": kind})
        self._watch.publish(Event(kind, self._clock.now(), summary, tenant_id, "", agent_id))

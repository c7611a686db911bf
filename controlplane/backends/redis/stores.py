"""All stores in one Redis server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import SettingsError
from controlplane.backends.redis.address import Address
from controlplane.backends.redis.agent_store import RedisAgentStore
from controlplane.backends.redis.audit_store import RedisAuditStore
from controlplane.backends.redis.event_log import RedisEventLog
from controlplane.backends.redis.examination import examine
from controlplane.backends.redis.fitness import Verdict, refuse
from controlplane.backends.redis.identity_store import RedisIdentityStore
from controlplane.backends.redis.mailbox_store import RedisMailboxStore
from controlplane.backends.redis.ownership import Ownership, identity
from controlplane.backends.redis.schedule_store import RedisScheduleStore
from controlplane.backends.redis.server import Server
from controlplane.backends.redis.subscription_store import RedisSubscriptionStore
from controlplane.backends.redis.task_store import RedisTaskStore
from controlplane.interfaces.event_log import KEPT_EVENTS
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import SubscriptionLimits

_log = logging.getLogger(__name__)
FORMAT: Final = 1
"""Of the keys; a newer one is refused."""


@dataclass(frozen=True, slots=True)
class RedisStores(Stores):
    """Stores that survive the process, and the machine as far as the server does."""

    server: Server
    ownership: Ownership | None = None

    async def hold(self) -> None:
        """See Stores."""
        if self.ownership is not None:
            await self.ownership.keep()

    async def close(self) -> None:
        """See Stores."""
        if self.ownership is not None and not self.server.closed:
            await self.ownership.leave()
        await self.server.close()


def open_redis(
    address: Address,
    clock: Clock,
    limits: MailboxLimits,
    kept_events: int = KEPT_EVENTS,
    subscriptions: SubscriptionLimits | None = None,
    home: Path | None = None,
) -> RedisStores:
    """Return the stores of a server; nothing is sent yet. With a `home`, `enter` must follow."""
    server = Server(address)
    return RedisStores(
        tasks=RedisTaskStore(server, clock),
        mailboxes=RedisMailboxStore(server, limits),
        agents=RedisAgentStore(server),
        events=RedisEventLog(server, kept_events),
        subscriptions=RedisSubscriptionStore(server, subscriptions or SubscriptionLimits()),
        identities=RedisIdentityStore(server),
        schedules=RedisScheduleStore(server),
        audit=RedisAuditStore(server),
        server=server,
        ownership=Ownership(server, identity(home)) if home is not None else None,
    )


async def enter(stores: RedisStores) -> RedisStores:
    """Look whether the server is fit, and take it for this control plane. Closes the stores if that fails.

    Raises:
        SettingsError: It is unfit, refuses us, holds keys of a newer version, or another control plane uses it.
        StoreUnavailableError: It cannot be reached, or is not ready yet.
    """
    server = stores.server
    try:
        findings = await examine(server)
        refuse(findings, server.address)
        for finding in findings:
            if finding.verdict is Verdict.RISK:
                _log.warning(
                    "the store is at risk", extra={"what": finding.name, "found": finding.found, "remedy": finding.remedy}
                )
        if stores.ownership is not None:
            await stores.ownership.take()
        await _check_format(server)
    except BaseException:
        await stores.close()
        raise
    return stores


async def _check_format(server: Server) -> None:
    key = server.key("g", "format")
    await server.write("SET", key, FORMAT, "NX")
    found = int(await server.ask("GET", key))
    if found > FORMAT:
        raise SettingsError(
            "What is stored there was written by a newer version of Conductor.",
            next_step="install that version again, or use another prefix (?prefix=NAME)",
            address=server.address,
            format=found,
            known=FORMAT,
        )

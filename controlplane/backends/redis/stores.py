"""All stores in one Redis server."""

from __future__ import annotations

from dataclasses import dataclass

from claude_conductor.clock import Clock
from controlplane.backends.redis.address import Address
from controlplane.backends.redis.agent_store import RedisAgentStore
from controlplane.backends.redis.event_log import RedisEventLog
from controlplane.backends.redis.mailbox_store import RedisMailboxStore
from controlplane.backends.redis.server import Server
from controlplane.backends.redis.subscription_store import RedisSubscriptionStore
from controlplane.backends.redis.task_store import RedisTaskStore
from controlplane.interfaces.event_log import KEPT_EVENTS
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import SubscriptionLimits


@dataclass(frozen=True, slots=True)
class RedisStores(Stores):
    """Stores that survive the process, and the machine as far as the server does."""

    server: Server

    async def close(self) -> None:
        """See Stores."""
        await self.server.close()


def open_redis(
    address: Address,
    clock: Clock,
    limits: MailboxLimits,
    kept_events: int = KEPT_EVENTS,
    subscriptions: SubscriptionLimits | None = None,
) -> RedisStores:
    """Return the stores of a server; nothing is sent yet."""
    server = Server(address)
    return RedisStores(
        tasks=RedisTaskStore(server, clock),
        mailboxes=RedisMailboxStore(server, limits),
        agents=RedisAgentStore(server),
        events=RedisEventLog(server, kept_events),
        subscriptions=RedisSubscriptionStore(server, subscriptions or SubscriptionLimits()),
        server=server,
    )

"""Which mailboxes are subscribed to which topics, in sorted sets of Redis."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.errors import SubscriptionLimitError
from controlplane.backends.redis.server import Server
from controlplane.interfaces.subscription_store import Subscription, SubscriptionLimits


class RedisSubscriptionStore:
    """A SubscriptionStore of three sorted sets a tenant: all pairs, mailboxes of a topic, topics of a mailbox."""

    def __init__(self, server: Server, limits: SubscriptionLimits) -> None:
        self._server = server
        self._limits = limits

    async def add(self, tenant_id: str, subscription: Subscription) -> None:
        """See SubscriptionStore."""
        await self._server.know(tenant_id)
        topic, mailbox = subscription.topic, subscription.mailbox
        limits = self._limits
        refused = await self._server.change("subscribe", f"m:{tenant_id}", topic, mailbox, limits.topics, limits.mailboxes)
        if refused == b"topics":
            raise SubscriptionLimitError(mailbox=mailbox, limit=limits.topics)
        if refused == b"mailboxes":
            raise SubscriptionLimitError(topic=topic, limit=limits.mailboxes)

    async def remove(self, tenant_id: str, subscription: Subscription) -> None:
        """See SubscriptionStore."""
        await self._server.change("unsubscribe", f"m:{tenant_id}", subscription.mailbox, subscription.topic)

    async def remove_all(self, tenant_id: str, mailbox: str) -> None:
        """See SubscriptionStore."""
        await self._server.change("unsubscribe", f"m:{tenant_id}", mailbox)

    async def mailboxes(self, tenant_id: str, topic: str) -> Sequence[str]:
        """See SubscriptionStore."""
        found = await self._server.ask("ZRANGE", self._key(tenant_id, f"topic:{topic}"), 0, -1)
        return [name.decode() for name in found]

    async def list(
        self, tenant_id: str, topic: str, mailbox: str, after: Subscription | None, limit: int
    ) -> Sequence[Subscription]:
        """See SubscriptionStore."""
        if topic and mailbox:
            member = _pair(topic, mailbox)
            there = await self._server.ask("ZSCORE", self._key(tenant_id, "subscriptions"), member)
            found = [Subscription(topic, mailbox)] if there is not None else []
            return [one for one in found if after is None or member > _pair(after.topic, after.mailbox)][:limit]
        if topic:
            # Behind `after` in the order of all is behind its mailbox in this topic, behind nothing in a later one.
            if after is not None and after.topic > topic:
                return []
            behind = after.mailbox.encode() if after is not None and after.topic == topic else None
            names = await self._range(tenant_id, f"topic:{topic}", behind, limit)
            return [Subscription(topic, name.decode()) for name in names]
        if mailbox:
            topics = [name.decode() for name in await self._range(tenant_id, f"topics:{mailbox}", None, -1)]
            found = [Subscription(name, mailbox) for name in topics]
            return [one for one in found if after is None or (one.topic, mailbox) > (after.topic, after.mailbox)][:limit]
        pairs = await self._range(tenant_id, "subscriptions", _pair(after.topic, after.mailbox) if after else None, limit)
        return [Subscription(*pair.decode().split("\0")) for pair in pairs]

    async def _range(self, tenant_id: str, name: str, behind: bytes | None, limit: int) -> Sequence[bytes]:
        start = b"(" + behind if behind is not None else b"-"
        found: Sequence[bytes] = await self._server.ask("ZRANGEBYLEX", self._key(tenant_id, name), start, "+", "LIMIT", 0, limit)
        return found

    def _key(self, tenant_id: str, name: str) -> str:
        return self._server.key(f"m:{tenant_id}", name)


def _pair(topic: str, mailbox: str) -> bytes:
    return f"{topic}\0{mailbox}".encode()

"""Which mailboxes are subscribed to which topics when nothing has to survive the process."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.errors import SubscriptionLimitError
from controlplane.interfaces.subscription_store import Subscription, SubscriptionLimits


class MemorySubscriptionStore:
    """A SubscriptionStore in a set for each tenant. No method waits, so each is atomic."""

    def __init__(self, limits: SubscriptionLimits) -> None:
        self._limits = limits
        self._tenants: dict[str, set[Subscription]] = {}

    async def add(self, tenant_id: str, subscription: Subscription) -> None:
        """See SubscriptionStore."""
        there = self._tenants.setdefault(tenant_id, set())
        if subscription in there:
            return
        if sum(each.mailbox == subscription.mailbox for each in there) >= self._limits.topics:
            raise SubscriptionLimitError(mailbox=subscription.mailbox, limit=self._limits.topics)
        if sum(each.topic == subscription.topic for each in there) >= self._limits.mailboxes:
            raise SubscriptionLimitError(topic=subscription.topic, limit=self._limits.mailboxes)
        there.add(subscription)

    async def remove(self, tenant_id: str, subscription: Subscription) -> None:
        """See SubscriptionStore."""
        self._tenants.get(tenant_id, set()).discard(subscription)

    async def remove_all(self, tenant_id: str, mailbox: str) -> None:
        """See SubscriptionStore."""
        there = self._tenants.get(tenant_id, set())
        there -= {each for each in there if each.mailbox == mailbox}

    async def mailboxes(self, tenant_id: str, topic: str) -> Sequence[str]:
        """See SubscriptionStore."""
        return sorted(each.mailbox for each in self._tenants.get(tenant_id, ()) if each.topic == topic)

    async def list(
        self, tenant_id: str, topic: str, mailbox: str, after: Subscription | None, limit: int
    ) -> Sequence[Subscription]:
        """See SubscriptionStore."""
        found = sorted(
            (
                each
                for each in self._tenants.get(tenant_id, ())
                if (not topic or each.topic == topic) and (not mailbox or each.mailbox == mailbox)
            ),
            key=lambda each: (each.topic, each.mailbox),
        )
        place = (after.topic, after.mailbox) if after is not None else ("", "")
        return [each for each in found if (each.topic, each.mailbox) > place][:limit]

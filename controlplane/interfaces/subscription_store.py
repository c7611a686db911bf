"""Which mailboxes get what is sent to a topic?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Subscription:
    """A mailbox that gets what is sent to a topic."""

    topic: str
    mailbox: str
    """As senders write it."""


@dataclass(frozen=True, slots=True)
class SubscriptionLimits:
    """Bounds."""

    topics: int = 100
    """Subscriptions of one mailbox."""
    mailboxes: int = 1000
    """Subscribers of one topic."""


class SubscriptionStore(Protocol):
    """Durable subscriptions. All methods may be called concurrently; each is atomic. Names are those of one tenant.

    A method that returns has made its change durable. One that raises StoreUnavailableError changed nothing, or
    (after a lost connection) nobody knows; the same call again is harmless.
    """

    async def add(self, tenant_id: str, subscription: Subscription) -> None:
        """Store a subscription; one that is there already changes nothing.

        Raises:
            SubscriptionLimitError: The mailbox or the topic has as many as allowed; nothing was stored.
        """

    async def remove(self, tenant_id: str, subscription: Subscription) -> None:
        """Forget a subscription, if there is one."""

    async def remove_all(self, tenant_id: str, mailbox: str) -> None:
        """Forget every subscription of a mailbox."""

    async def mailboxes(self, tenant_id: str, topic: str) -> Sequence[str]:
        """Return the subscribers of a topic, sorted."""

    async def list(
        self, tenant_id: str, topic: str, mailbox: str, after: Subscription | None, limit: int
    ) -> Sequence[Subscription]:
        """Return subscriptions by topic, then mailbox, those after `after`; `topic` and `mailbox` filter if not empty."""

"""What every SubscriptionStore does. A backend's test class has this and gives the fixture `subscriptions`, made with LIMITS."""

from __future__ import annotations

import asyncio

import pytest

from claude_conductor.errors import SubscriptionLimitError
from controlplane.interfaces.subscription_store import Subscription, SubscriptionLimits, SubscriptionStore

LIMITS = SubscriptionLimits(topics=3, mailboxes=4)


async def everything(subscriptions: SubscriptionStore, topic: str = "", mailbox: str = "") -> list[tuple[str, str]]:
    return [(each.topic, each.mailbox) for each in await subscriptions.list("default", topic, mailbox, None, 100)]


class SubscriptionStoreContract:
    """All of it."""

    async def test_a_mailbox_is_subscribed_once_and_until_it_ends_that(self, subscriptions: SubscriptionStore) -> None:
        news = Subscription("news", "agent-1")
        for _ in range(2):
            await subscriptions.add("default", news)
        await subscriptions.add("default", Subscription("news", "operator"))
        assert list(await subscriptions.mailboxes("default", "news")) == ["agent-1", "operator"]
        for _ in range(2):
            await subscriptions.remove("default", news)
        assert list(await subscriptions.mailboxes("default", "news")) == ["operator"]
        assert list(await subscriptions.mailboxes("default", "nothing")) == []

    async def test_tenants_do_not_see_each_others(self, subscriptions: SubscriptionStore) -> None:
        await subscriptions.add("other", Subscription("news", "agent-1"))
        assert await everything(subscriptions) == []
        assert list(await subscriptions.mailboxes("default", "news")) == []
        await subscriptions.remove_all("default", "agent-1")
        assert list(await subscriptions.mailboxes("other", "news")) == ["agent-1"]

    async def test_a_mailbox_that_closes_has_none_left(self, subscriptions: SubscriptionStore) -> None:
        for topic, mailbox in (("a", "task/1"), ("b", "task/1"), ("a", "agent-1")):
            await subscriptions.add("default", Subscription(topic, mailbox))
        for _ in range(2):
            await subscriptions.remove_all("default", "task/1")
        assert await everything(subscriptions) == [("a", "agent-1")]

    async def test_both_bounds_hold_and_a_repeat_is_no_more(self, subscriptions: SubscriptionStore) -> None:
        for topic in ("a", "b", "c", "a"):
            await subscriptions.add("default", Subscription(topic, "agent-1"))
        with pytest.raises(SubscriptionLimitError, match="agent-1"):
            await subscriptions.add("default", Subscription("d", "agent-1"))
        for number in range(2, 5):
            await subscriptions.add("default", Subscription("a", f"agent-{number}"))
        with pytest.raises(SubscriptionLimitError, match="topic=a"):
            await subscriptions.add("default", Subscription("a", "agent-5"))
        await subscriptions.remove("default", Subscription("a", "agent-1"))
        await subscriptions.add("default", Subscription("d", "agent-1"))
        await subscriptions.add("default", Subscription("a", "agent-5"))

    async def test_no_bound_is_passed_by_many_at_once(self, subscriptions: SubscriptionStore) -> None:
        wanted = (subscriptions.add("default", Subscription("a", f"agent-{number}")) for number in range(12))
        answers = await asyncio.gather(*wanted, return_exceptions=True)
        assert sum(isinstance(answer, SubscriptionLimitError) for answer in answers) == 8
        assert len(await subscriptions.mailboxes("default", "a")) == 4

    async def test_a_list_is_by_topic_and_mailbox_in_pages_and_filtered(self, subscriptions: SubscriptionStore) -> None:
        every = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")]
        for topic, mailbox in reversed(every):
            await subscriptions.add("default", Subscription(topic, mailbox))
        seen: list[tuple[str, str]] = []
        after: Subscription | None = None
        while page := await subscriptions.list("default", "", "", after, 3):
            seen.extend((each.topic, each.mailbox) for each in page)
            after = page[-1]
        assert seen == every
        assert await everything(subscriptions, topic="a") == every[:2]
        assert await everything(subscriptions, mailbox="x") == [("a", "x"), ("b", "x")]
        assert await everything(subscriptions, topic="b", mailbox="y") == []

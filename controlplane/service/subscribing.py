"""Who may subscribe which mailbox to a topic, and until when does that hold?"""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.errors import InvalidArgumentError, PermissionDeniedError
from claude_conductor.ids import AgentId, TenantId
from controlplane.domain import routing
from controlplane.domain.routing import OPERATOR, Owner
from controlplane.interfaces.subscription_store import Subscription, SubscriptionStore
from controlplane.service.directory import Directory


class Subscribing:
    """Changes and shows subscriptions on behalf of an agent (its mailboxes only), or of the operator (agent id empty)."""

    def __init__(self, store: SubscriptionStore, directory: Directory) -> None:
        self._store = store
        self._directory = directory

    async def subscribe(self, tenant_id: TenantId, agent_id: AgentId, topic: str, mailbox: str) -> None:
        """Have messages to the topic copied to the mailbox from now on. A repeat changes nothing.

        Raises:
            InvalidArgumentError: The topic or the mailbox is none.
            PermissionDeniedError: The mailbox is not the caller's.
            AgentNotFoundError: Its task has ended.
            SubscriptionLimitError: The mailbox or the topic has as many as allowed.
        """
        subscription = await self._checked(tenant_id, agent_id, topic, mailbox)
        if not agent_id and subscription.mailbox != OPERATOR:
            raise PermissionDeniedError("An agent subscribes for itself.", mailbox=mailbox)
        await self._directory.admit(tenant_id, routing.parse_recipient(subscription.mailbox))
        await self._store.add(tenant_id, subscription)

    async def unsubscribe(self, tenant_id: TenantId, agent_id: AgentId, topic: str, mailbox: str) -> None:
        """End a subscription. A repeat changes nothing.

        Raises:
            InvalidArgumentError: The topic or the mailbox is none.
            PermissionDeniedError: The mailbox is not the caller's.
        """
        await self._store.remove(tenant_id, await self._checked(tenant_id, agent_id, topic, mailbox))

    async def list(
        self, tenant_id: TenantId, agent_id: AgentId, topic: str, mailbox: str, after: Subscription | None, limit: int
    ) -> Sequence[Subscription]:
        """Return subscriptions by topic, then mailbox; `topic` and `mailbox` filter if not empty.

        Raises:
            PermissionDeniedError: An agent asks for others than its own.
        """
        if agent_id and not await self._directory.owns(tenant_id, agent_id, mailbox):
            raise PermissionDeniedError("An agent sees the subscriptions of its own mailboxes only.", mailbox=mailbox)
        return await self._store.list(tenant_id, topic, mailbox, after, limit)

    async def _checked(self, tenant_id: TenantId, agent_id: AgentId, topic: str, mailbox: str) -> Subscription:
        recipient = routing.parse_recipient(mailbox or OPERATOR)
        if recipient.owner in {Owner.TOPIC, Owner.EVERYONE}:
            raise InvalidArgumentError("A topic is no mailbox: agents, tasks and the operator have one.", mailbox=mailbox)
        if agent_id and not await self._directory.owns(tenant_id, agent_id, recipient.name):
            raise PermissionDeniedError("An agent subscribes its own mailboxes only.", mailbox=mailbox)
        return Subscription(routing.check_topic(topic), recipient.name)

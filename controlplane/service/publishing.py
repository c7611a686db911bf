"""How does one message reach many, each of them once and in its sender's order?

Accepted means: stored once, with the mailboxes that get it. The copies are made afterwards, some at a time, and by the next life
of this process if this one is killed between. Until they are made, whatever else their sender says waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import StoreUnavailableError
from claude_conductor.ids import TenantId
from controlplane.domain import routing
from controlplane.domain.message import Copy, Duplicate, IncomingFrame, Outcome
from controlplane.domain.routing import BROADCAST, Owner, Recipient
from controlplane.interfaces.mailbox_store import tenant_of
from controlplane.interfaces.publication_store import PublicationStore
from controlplane.interfaces.subscription_store import SubscriptionStore
from controlplane.service.directory import Directory
from controlplane.service.mail import Mail
from controlplane.service.news import MessageNews
from controlplane.service.permissions import Permissions
from controlplane.service.pulse import wait
from controlplane.service.timetable import Timetable

_log = logging.getLogger(__name__)
_COPIES_AT_ONCE: Final = 100
_BYTES_AT_ONCE: Final = 4 << 20
"""Of the copies of one write to the store; it holds up other writes no longer than a frame of the largest size does."""
_STORE_PAUSE: Final = 0.5
_LONGEST_TURN: Final = 30.0


class Publishing:
    """Stores publications and makes their copies."""

    def __init__(
        self,
        store: PublicationStore,
        subscriptions: SubscriptionStore,
        directory: Directory,
        mail: Mail,
        news: MessageNews,
        timetable: Timetable,
        clock: Clock,
        permissions: Permissions,
    ) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._directory = directory
        self._mail = mail
        self._news = news
        self._timetable = timetable
        self._clock = clock
        self._permissions = permissions
        self.under_way: dict[tuple[str, str], asyncio.Event] = {}
        """(tenant, sender) -> set when the last publication of this sender is in every mailbox."""
        self._unsure = False
        """The store failed while it was given a publication: it may have it, and nobody makes the copies."""

    async def recipients(self, tenant_id: TenantId, recipient: Recipient, sender: str, type: str) -> tuple[str, ...]:  # noqa: A002 - the domain's word
        """Return the mailboxes (with their tenant) that a message to a topic or to everyone goes to now, by policy."""
        everyone = recipient.owner is Owner.EVERYONE
        names = [*await self._subscriptions.mailboxes(tenant_id, BROADCAST if everyone else recipient.id)]
        for name in [name for name in names if name.startswith("task/")]:
            if not await self._directory.is_open(tenant_id, name):  # it subscribed while its task ended
                await self._subscriptions.remove_all(tenant_id, name)
                names.remove(name)
        if everyone:
            names += self._directory.everyone(tenant_id)
        allowed = await self._permissions.permitted(tenant_id, sender, routing.shared_with(sender, names), type)
        return tuple(routing.mailbox(tenant_id, name) for name in allowed)

    async def turn(self, tenant_id: str, sender: str) -> None:
        """Return once everything this sender has published is in its mailboxes.

        Raises:
            StoreUnavailableError: The store takes so long that the sender had better repeat.
        """
        while (before := self.under_way.get((tenant_id, sender))) is not None:
            if not await wait(before, _LONGEST_TURN):
                raise StoreUnavailableError("An earlier message of this sender still waits for the store.")

    async def publish(self, frame: IncomingFrame) -> tuple[Outcome, Sequence[str]]:
        """Store a frame with its `recipients` and make the copies.

        Returns:
            What became of it, and the recipients whose mailbox was closed meanwhile.

        Raises:
            StoreUnavailableError: Nobody knows whether it was stored; a repeat is safe.
        """
        key = (tenant_of(frame.mailbox), frame.sender)
        await self.turn(*key)
        done = self.under_way[key] = asyncio.Event()
        try:
            outcome, number = await self._store.publish(frame)
            if isinstance(outcome, Duplicate):
                number, frame = await self._uncopied(frame)
            closed = await self._copy(number, frame) if number and frame.recipients else []
        except StoreUnavailableError:
            self._unsure = True
            self._timetable.expect_message(self._clock.now() + _STORE_PAUSE)
            raise
        finally:
            del self.under_way[key]
            done.set()
        return outcome, closed

    async def _uncopied(self, repeat: IncomingFrame) -> tuple[int, IncomingFrame]:
        """Return what a repeat repeats, if that has copies left: the store had it, although its answer was that it failed."""
        found = await self._store.publication(tenant_of(repeat.mailbox), repeat.message_ids[:16])
        if found is None or not found.left or found.frame.sender != repeat.sender:
            return 0, repeat
        return found.number, found.frame

    async def finish(self) -> Sequence[tuple[TenantId, str]]:
        """Make the copies that were left, by an earlier life or by a store that failed; what is under way is left alone.

        Returns:
            (tenant, mailbox) of the recipients that were closed meanwhile.

        Raises:
            StoreUnavailableError: Some are left.
        """
        closed: list[tuple[TenantId, str]] = []
        for publication in await self._store.unfinished():
            key = (tenant_of(publication.frame.mailbox), publication.frame.sender)
            if key in self.under_way:
                self._unsure = True
                continue
            done = self.under_way[key] = asyncio.Event()
            try:
                names = await self._copy(publication.number, publication.frame)
            finally:
                del self.under_way[key]
                done.set()
            closed += [(TenantId(key[0]), name) for name in names]
        return closed

    async def catch_up(self) -> Sequence[tuple[TenantId, str]]:
        """Do as `finish` if the store failed meanwhile in a way that may have left some."""
        if not self._unsure:
            return []
        self._unsure = False
        try:
            return await self.finish()
        except StoreUnavailableError:
            self._unsure = True
            raise

    async def end_subscriptions(self, tenant_id: TenantId, mailbox_name: str) -> None:
        """Copy nothing to a mailbox any more: it was closed."""
        await self._subscriptions.remove_all(tenant_id, mailbox_name)

    async def _copy(self, number: int, frame: IncomingFrame) -> list[str]:
        """Make every copy; a store that is away is waited for, as the message is accepted already."""
        most = max(1, min(_COPIES_AT_ONCE, _BYTES_AT_ONCE // max(1, len(frame.frame))))
        self._timetable.expect_message(frame.expire_time_ms / 1000)
        closed: list[str] = []
        left, unsure = 1, False
        while left:
            try:
                copies, left = await self._store.copy(number, most, int(self._clock.now() * 1000))
            except StoreUnavailableError as error:
                _log.warning("copies of a message wait for the store", extra={"topic": frame.mailbox, "cause": str(error)})
                unsure = True
                await asyncio.sleep(_STORE_PAUSE)
                continue
            for copy in copies:
                closed += await self._made(frame, copy)
        return await self._look_everywhere(frame) if unsure else closed

    async def _look_everywhere(self, frame: IncomingFrame) -> list[str]:
        """Deliver copies that were made although the store failed; return the recipients whose mailbox was closed meanwhile."""
        for mailbox in frame.recipients or ():
            self._mail.look(mailbox)
        return [name for mailbox in frame.recipients or () for name in await self._late(mailbox)]

    async def _made(self, frame: IncomingFrame, copy: Copy) -> list[str]:
        if copy.dead:
            self._news.tell("message.dead", copy.dead)
        else:
            self._mail.stored(frame._replace(mailbox=copy.mailbox, recipients=None), copy.first_position)
        return await self._late(copy.mailbox)

    async def _late(self, mailbox: str) -> list[str]:
        """Return the mailbox's name if it was closed before its copy came."""
        name = routing.local_name(mailbox)
        late = name.startswith("task/") and not await self._directory.is_open(TenantId(tenant_of(mailbox)), name)
        return [name] if late else []

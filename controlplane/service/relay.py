"""How is a message accepted, and what becomes of it besides being delivered?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from claude_conductor.clock import Clock
from claude_conductor.errors import (
    ConductorError,
    MailboxFullError,
    PermissionDeniedError,
    RateLimitedError,
    StoreUnavailableError,
)
from claude_conductor.ids import TenantId
from controlplane.domain import routing
from controlplane.domain.message import (
    Accepted,
    Behind,
    Duplicate,
    Full,
    Header,
    IncomingFrame,
    Outcome,
    PartlyDuplicate,
    Quality,
    Receipt,
    Record,
    State,
)
from controlplane.domain.routing import Bounds, Shape
from controlplane.interfaces.letter_store import LetterStore
from controlplane.interfaces.mailbox_store import tenant_of
from controlplane.service.directory import Directory
from controlplane.service.envelopes import Envelopes
from controlplane.service.mail import Mail
from controlplane.service.meter import Meter
from controlplane.service.news import MessageNews
from controlplane.service.passing import Passing
from controlplane.service.permissions import Permissions
from controlplane.service.publishing import Publishing
from controlplane.service.rates import Rates
from controlplane.service.timetable import Timetable
from controlplane.service.work import Work

_log = logging.getLogger(__name__)
_NO_EXPIRY_YET = 60_000
_STORE_PAUSE = 0.5
_NOTICES = 1000
"""Notices of bounced messages sent at once."""


class Offer(NamedTuple):
    """A frame somebody wants to send. `sender` is authenticated."""

    tenant_id: TenantId
    sender: str
    header: Header
    shape: Shape
    frame: bytes
    agent_id: str = ""
    """Whose rate it counts for, whatever name it is sent in; empty: the sender's."""


Verdict = Accepted | Duplicate | ConductorError
"""What became of an offer."""


class Relay:
    """Takes frames into mailboxes (or, if ephemeral, straight to the live stream) and settles their messages."""

    def __init__(
        self,
        store: LetterStore,
        mail: Mail,
        directory: Directory,
        envelopes: Envelopes,
        news: MessageNews,
        timetable: Timetable,
        clock: Clock,
        bounds: Bounds,
        work: Work,
        publishing: Publishing,
        passing: Passing,
        rates: Rates,
        permissions: Permissions,
        meter: Meter | None = None,
    ) -> None:
        self._store = store
        self._meter = meter
        self._mail = mail
        self._directory = directory
        self._envelopes = envelopes
        self._news = news
        self._timetable = timetable
        self._clock = clock
        self._bounds = bounds
        self._rates = rates
        self._permissions = permissions
        self._work = work
        self._publishing = publishing
        self._passing = passing

    async def accept(self, offers: Sequence[Offer]) -> list[Verdict]:
        """Take frames in order, all of them in one write to the store; each is refused or taken for itself.

        Cancelling the call does not undo it: what is stored is delivered.

        Raises:
            StoreUnavailableError: Nobody knows which durable frames were taken, and no ephemeral one was; a repeat is safe.
        """
        if all(offer.header.quality is Quality.EPHEMERAL for offer in offers):
            verdicts = await self._accept(offers)  # nothing is stored, so nothing can be left half done
        else:
            verdicts = await self._work.whole(self._accept(offers), name="accept messages")
        if self._meter is not None:
            for offer, verdict in zip(offers, verdicts, strict=True):
                if isinstance(verdict, Accepted):
                    self._meter.accepted(offer.header.quality, offer.header.messages)
                elif isinstance(verdict, ConductorError):
                    self._meter.refused.add(offer.header.messages, verdict.reason)
        return verdicts

    async def _accept(self, offers: Sequence[Offer]) -> list[Verdict]:
        now_ms = self._now_ms()
        direct = True
        verdicts: list[Verdict] = []
        durable: list[tuple[int, IncomingFrame]] = []
        passing: list[tuple[int, IncomingFrame]] = []
        for index, offer in enumerate(offers):
            try:
                frame = await self._check(offer, now_ms)
                if routing.is_shared(offer.header.recipient):
                    frame, direct = await self._addressed(offer, frame), False
            except ConductorError as error:
                again = isinstance(error, RateLimitedError)  # whoever comes too fast is sent away without a look at the store
                verdicts.append(error if again else await self._taken_before(offer) or error)
                continue
            (passing if offer.header.quality is Quality.EPHEMERAL else durable).append((index, frame))
            verdicts.append(Accepted(0))
        if durable and direct:
            await self._store_direct(durable, verdicts)
        elif durable:
            for shared, run in groupby(durable, lambda each: each[1].recipients is not None):
                await (self._store_shared if shared else self._store_direct)(list(run), verdicts)
        for index, frame in passing:  # last, as all of it comes again if the store fails
            if frame.recipients is not None:
                verdicts[index] = self._passing.hand_out(frame, frame.recipients)
                continue
            try:
                self._passing.hand_over(frame)
            except ConductorError as error:
                verdicts[index] = error
        return verdicts

    async def _addressed(self, offer: Offer, frame: IncomingFrame) -> IncomingFrame:
        recipient = routing.parse_recipient(offer.header.recipient)
        return frame._replace(
            recipients=await self._publishing.recipients(offer.tenant_id, recipient, offer.sender, offer.header.type)
        )

    async def _store_direct(self, run: Sequence[tuple[int, IncomingFrame]], verdicts: list[Verdict]) -> None:
        if self._publishing.under_way:
            for key in {(tenant_of(frame.mailbox), frame.sender) for _, frame in run}:
                await self._publishing.turn(*key)
        waiting = run
        while waiting:
            outcomes = await self._store.append([frame for _, frame in waiting])
            again: list[tuple[int, IncomingFrame]] = []
            for (index, frame), outcome in zip(waiting, outcomes, strict=True):
                match outcome:
                    case PartlyDuplicate(indexes=repeated):
                        again.append((index, self._without(frame, repeated)))
                    case Behind():
                        again.append((index, frame))
                    case _:
                        verdicts[index] = self._settle(frame, outcome)
            waiting = again  # in their order, so that no message overtakes another of its pair

    async def _store_shared(self, run: Sequence[tuple[int, IncomingFrame]], verdicts: list[Verdict]) -> None:
        for index, frame in run:
            outcome, closed = await self._publishing.publish(frame)
            if isinstance(outcome, PartlyDuplicate):
                outcome, closed = await self._publishing.publish(self._without(frame, outcome.indexes))
            await self._bounce(closed, TenantId(tenant_of(frame.mailbox)))
            verdicts[index] = outcome if isinstance(outcome, Accepted | Duplicate) else Duplicate()

    async def finish(self) -> None:
        """Make the copies of messages to topics and to everyone that an earlier life has left."""
        for tenant_id, name in await self._publishing.finish():
            await self._bounce([name], tenant_id)

    async def _catch_up(self) -> None:
        for tenant_id, name in await self._publishing.catch_up():
            await self._bounce([name], tenant_id)

    async def _bounce(self, closed: Sequence[str], tenant_id: TenantId) -> None:
        for name in closed:
            await self.close(tenant_id, name, "the task has ended")

    async def _check(self, offer: Offer, now_ms: int) -> IncomingFrame:
        """Return the frame if it may be stored. Everything that may be against it is asked here, before anything is stored."""
        expire_time_ms = routing.check(offer.header, offer.shape, self._bounds, now_ms)
        if offer.sender != routing.CONDUCTOR:
            self._rates.check(offer.tenant_id, offer.agent_id or offer.sender, offer.header.messages)
        recipient = routing.parse_recipient(offer.header.recipient)
        await self._directory.admit(offer.tenant_id, recipient)
        if not routing.is_shared(offer.header.recipient):  # of many, those get a copy that the policy allows
            await self._permissions.check(offer.tenant_id, offer.sender, recipient, offer.header.type)
        return IncomingFrame(
            mailbox=routing.mailbox(offer.tenant_id, recipient.name),
            sender=offer.sender,
            type=offer.header.type,
            message_ids=offer.header.message_ids,
            expire_time_ms=expire_time_ms,
            frame=offer.frame,
            accept_time_ms=now_ms,
        )

    async def _taken_before(self, offer: Offer) -> Duplicate | None:
        """Return the answer if a frame that is refused now is the repeat of one that was taken while it still could be."""
        ids = offer.header.message_ids if offer.header.quality is Quality.DURABLE else b""
        if ids and routing.is_shared(offer.header.recipient):
            first = await self._store.publication(offer.tenant_id, ids[:16])
            taken = first is not None and first.frame.sender == offer.sender
            return Duplicate(len(first.frame.recipients or ())) if first is not None and taken else None
        for start in range(0, len(ids), 16):
            found = await self._store.find(offer.tenant_id, ids[start : start + 16])
            if not any(record.sender == offer.sender for record, _ in found):
                return None
        return Duplicate() if ids else None

    def _settle(self, frame: IncomingFrame, outcome: Outcome) -> Verdict:
        match outcome:
            case Accepted(first_position=position):
                self._timetable.expect_message(frame.expire_time_ms / 1000)
                self._mail.stored(frame, position)
                return outcome
            case Full():
                return MailboxFullError(recipient=routing.local_name(frame.mailbox))
            case _:
                self._mail.look(frame.mailbox)  # whoever stored it may not have come to say so
                return outcome if isinstance(outcome, Duplicate) else Duplicate()

    def _without(self, frame: IncomingFrame, repeated: frozenset[int]) -> IncomingFrame:
        kept = [index for index in range(frame.messages) if index not in repeated]
        ids = b"".join(frame.message_ids[16 * index : 16 * index + 16] for index in kept)
        return frame._replace(message_ids=ids, frame=self._envelopes.keep(frame.frame, kept))

    async def receive(self, tenant_id: TenantId, agent_id: str, mailbox_name: str, receipts: Sequence[Receipt]) -> None:
        """Note what became of messages delivered to an agent.

        Raises:
            PermissionDeniedError: The mailbox is not this agent's.
            StoreUnavailableError: Nothing was noted.
        """
        if not await self._directory.owns(tenant_id, agent_id, mailbox_name):
            raise PermissionDeniedError("An agent acknowledges messages of its own mailboxes only.", mailbox=mailbox_name)
        await self._work.whole(self._receive(tenant_id, mailbox_name, receipts), name="take receipts")

    async def _receive(self, tenant_id: TenantId, mailbox_name: str, receipts: Sequence[Receipt]) -> None:
        key = routing.mailbox(tenant_id, mailbox_name)
        ended = await self._store.record(key, [_with_reason(receipt) for receipt in receipts], self._now_ms())
        self._news.tell("message.dead", [record for record in ended if record.state is State.DEAD])
        await self._bounced([record for record in ended if record.state is State.BOUNCED])

    async def close(self, tenant_id: TenantId, mailbox_name: str, reason: str) -> None:
        """Bounce what is left in a mailbox, tell the senders, and end its subscriptions."""
        key = routing.mailbox(tenant_id, mailbox_name)
        self._mail.close(key)
        bounced = await self._store.close(key, reason, self._now_ms())
        await self._publishing.end_subscriptions(tenant_id, mailbox_name)
        await self._bounced(bounced)

    async def _bounced(self, records: Sequence[Record]) -> None:
        """Tell senders of what bounced; if the store fails now it still knows what is owed, and `expire` tries again."""
        if not records:
            return
        self._news.tell("message.bounced", records)
        try:
            await self._tell_senders(records)
        except StoreUnavailableError as error:
            _log.warning("notices of bounced messages wait for the store", extra={"cause": str(error)})
            self._timetable.expect_message(self._clock.now() + _STORE_PAUSE)

    async def _tell_senders(self, bounced: Sequence[Record]) -> int:
        """Send the notices bounced messages owe, and return how many still do, because the mailbox of a sender is full."""
        by_mailbox: dict[tuple[str, str], list[Record]] = {}
        for record in bounced:
            name = routing.reply_name(record.sender)
            if name is not None:
                by_mailbox.setdefault((tenant_of(record.mailbox), name), []).append(record)
        return sum([await self._notify(tenant_id, name, records) for (tenant_id, name), records in by_mailbox.items()])

    async def _notify(self, tenant_id: str, name: str, records: Sequence[Record]) -> int:
        """Send one sender its notices, as many as there is room for; return how many are left."""
        notice = self._envelopes.bounced(name, records)
        header = Header(name, routing.BOUNCED_TYPE, Quality.DURABLE, 0, 0, notice.message_ids)
        offer = Offer(TenantId(tenant_id), routing.CONDUCTOR, header, Shape(len(records), 0), notice.frame)
        (verdict,) = await self.accept([offer])
        if isinstance(verdict, MailboxFullError):
            half = len(records) // 2
            if not half or await self._notify(tenant_id, name, records[:half]):
                return len(records)
            return await self._notify(tenant_id, name, records[half:])
        if isinstance(verdict, ConductorError):
            _log.info("a sender could not be told of a bounce", extra={"mailbox": name, "reason": verdict.reason})
        await self._store.told(records)
        return 0

    async def _tell_owed(self) -> None:
        """Send notices that an earlier life, a failing store or a full mailbox kept from being sent."""
        while owed := await self._store.owed(_NOTICES):
            if await self._tell_senders(owed):
                return

    async def expire(self) -> None:
        """End messages whose time is over, and send the notices that are still owed."""
        now_ms = self._now_ms()
        self._news.tell("message.expired", await self._store.expire(now_ms))
        await self._catch_up()
        await self._tell_owed()
        self._timetable.expect_message((now_ms + _NO_EXPIRY_YET) / 1000)

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


def _with_reason(receipt: Receipt) -> Receipt:
    if receipt.state is State.BOUNCED and not receipt.reason:
        return replace(receipt, reason="refused by its recipient")
    return receipt

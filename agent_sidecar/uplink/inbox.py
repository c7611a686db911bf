"""What came for the agent: journalled, shown once to each agent process, gone when it is acknowledged.

A position of a mailbox is taken once: what is delivered again is dropped, and, if it was acknowledged before, its acknowledgement
is repeated. What one agent process saw without acknowledging is offered to the next with a higher `attempt`, five times at most
unless set otherwise. Until it is acknowledged or given up, what the same sender wrote after it waits: so a message that ends its
reader takes nothing with it. An answer that did not arrive comes again for the same request, so that a frozen process or a cut
connection takes nothing away.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

from agent_sidecar.uplink import inbound
from agent_sidecar.uplink.held import Held
from agent_sidecar.uplink.inbound import Item
from agent_sidecar.uplink.journal import Journal
from agent_sidecar.uplink.outbox import Outbox
from agent_sidecar.uplink.receipts import receipts
from agent_sidecar.uplink.repeats import Repeats
from claude_conductor.clock import Clock, SystemClock
from claude_conductor.errors import MessageNotFoundError, StoreUnavailableError
from claude_conductor.hops import Hops
from claude_conductor.v1 import message_pb2, message_service_pb2, session_service_pb2

_log = logging.getLogger(__name__)
ATTEMPTS: Final = 5
"""Agent processes that are shown a message without acknowledging it, unless the control plane says otherwise."""
CONDUCTOR: Final = "conductor"
"""Sender of the control plane's own notices."""
_REPEAT_SECONDS: Final = 0.5
FETCH_BYTES: Final = 2 << 20
"""Most bytes of one answer to the agent, which a gRPC client takes without options (4 MiB); a single message may be larger."""


@dataclass(frozen=True, slots=True)
class InboxLimits:
    """How much may wait for the agent."""

    messages: int = 1000
    bytes: int = 8 << 20


class Inbox:
    """The mailboxes the agent reads. All methods belong to one event loop.

    Args:
        journal: Opened.
        outbox: Takes receipts.
        limits: Bounds; the control plane is told as credit.
        clock: Says when messages have expired.
    """

    def __init__(self, journal: Journal, outbox: Outbox, limits: InboxLimits | None = None, clock: Clock | None = None) -> None:
        self._journal = journal
        self._clock = clock or SystemClock()
        self._outbox = outbox
        self._limits = limits or InboxLimits()
        self._held = Held(self._limits.messages)
        self._cursors: dict[str, int] = {}
        self._open: set[str] = set()
        """Mailboxes of tasks that are worked on; what comes late for another task is nobody's here."""
        self._arrived = asyncio.Event()
        self._expected: Counter[str] = Counter()
        """Messages whose answers are waited for."""
        self.hops = Hops()
        """Of what the agent fetched."""
        self._granted = [0, 0]
        self._on_credit: Callable[[int, int], None] = _nobody
        self._attempts = ATTEMPTS
        self._answering = asyncio.Lock()
        """One answer is made whole, or not at all, before the next begins: they come in the order of their messages."""
        self._repeats = Repeats()
        self._process = 0
        """Which process of the agent is served; a call that an earlier one left behind takes nothing away from it."""

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what an earlier life left; mailboxes of its tasks are forgotten, as those attempts are over."""
        for mailbox, item in inbound.load(connection):
            self._held.put(mailbox, item)
        self._cursors = inbound.cursors(connection)

    def positions(self) -> dict[str, int]:
        """Return the highest position journalled, per mailbox."""
        return dict(self._cursors)

    def begin_session(self, on_credit: Callable[[int, int], None], attempts: int = 0) -> None:
        """Grant what there is room for, and more whenever there is; give up messages after so many attempts (0: as before)."""
        self._on_credit = on_credit
        self._attempts = attempts or self._attempts
        self._granted = [0, 0]
        self._grant(always=True)

    def end_session(self) -> None:
        """Nobody is there to be granted anything."""
        self._on_credit = _nobody

    async def deliver(self, delivery: session_service_pb2.Delivery, size: int = 0) -> None:
        """Take a delivery; returns once it is journalled and its receipts are on their way. A full disk is waited for.

        Args:
            delivery: What came.
            size: Bytes it had on the wire, which is what the control plane takes off the credit; 0 if it was not measured.
        """
        new: list[tuple[str, Item]] = []
        known: list[tuple[str, int]] = []
        self._granted[1] -= size or delivery.ByteSize()
        for frame in delivery.frames:
            self._granted[0] -= len(frame.frame.envelopes)
            if frame.header.mailbox.startswith("task/") and frame.header.mailbox not in self._open:
                continue  # its task is over here: whoever sent it is told when the control plane hears of that
            self._sort(frame, new, known)
        if known:
            self._outbox.append(receipts(known, message_pb2.MESSAGE_STATE_ACKED))
        if new:
            await self._take_in(new)
        self._arrived.set()
        self._grant()

    def _sort(self, frame: message_pb2.DeliveredFrame, new: list[tuple[str, Item]], known: list[tuple[str, int]]) -> None:
        """Keep what passes, and tell what is new from what was acknowledged before."""
        mailbox = frame.header.mailbox
        for item in inbound.items(frame):
            if not item.position:
                self._held.put(mailbox, item)
            elif item.position > self._cursors.get(mailbox, 0):
                new.append((mailbox, item))
            elif not self._held.holds(mailbox, item.position):
                known.append((mailbox, item.position))

    async def _take_in(self, new: Sequence[tuple[str, Item]]) -> None:
        """Journal messages. Once they are durable they are here, also if the session that brought them ends meanwhile."""
        told = receipts([(mailbox, item.position) for mailbox, item in new], message_pb2.MESSAGE_STATE_AT_SIDECAR)
        while True:
            appended = self._outbox.append(told, inbound.insert(new))
            appended.add_done_callback(lambda done: self._landed(done, new))
            try:
                await asyncio.shield(appended)
            except StoreUnavailableError as error:
                _log.error("messages could not be journalled yet", extra={"cause": str(error)})
                await asyncio.sleep(_REPEAT_SECONDS)
            else:
                return

    def _landed(self, appended: asyncio.Future[int], new: Sequence[tuple[str, Item]]) -> None:
        if appended.cancelled() or appended.exception() is not None:
            return
        for mailbox, item in new:
            ended = mailbox.startswith("task/") and mailbox not in self._open
            if not ended and item.position > self._cursors.get(mailbox, 0):
                self._cursors[mailbox] = item.position
                self._held.put(mailbox, item)
        self._arrived.set()

    async def fetch(self, most: int, wait: float, request_id: str = "") -> list[message_service_pb2.ReceivedMessage]:
        """Return messages this agent process has not fetched, in order; empty after `wait` seconds without any.

        Args:
            most: At most this many.
            wait: Seconds to wait for the first.
            request_id: Of a call; what was answered to this id and is not acknowledged comes again. Empty for none.
        """
        process = self._process
        if not self._answer_to(request_id, most) and wait > 0:
            try:
                async with asyncio.timeout(wait):
                    while process == self._process and not self._answer_to(request_id, 1):
                        self._arrived.clear()
                        await self._arrived.wait()
            except TimeoutError:
                return []
        async with self._answering:
            if process != self._process:
                return []  # nobody is there to read it
            chosen = self._answer_to(request_id, most)
            shown = await self._show(chosen)
        self._repeats.remember(request_id, chosen)
        self._arrived.set()  # a repeat of this call may wait already
        return shown

    def _answer_to(self, request_id: str, most: int) -> list[tuple[str, Item]]:
        """Return what the request was answered before, else what is new."""
        return [pair for pair in self._repeats.answered(request_id) if self._held.has(*pair)] or self._unseen(most)

    @contextmanager
    def expecting(self, message_id: str) -> Iterator[None]:
        """Keep answers to a message for `reply` as long as this lasts; what it leaves is fetched like any message."""
        self._expected[message_id] += 1
        try:
            yield
        finally:
            self._expected[message_id] -= 1
            self._expected += Counter()  # forgets what is at 0
            self._arrived.set()

    async def reply(self, message_id: str, wait: float, *, bounces: bool) -> message_service_pb2.ReceivedMessage | None:
        """Return the first answer to a message, None after `wait` seconds without one; others keep waiting in their order.

        One that an earlier call took and that is not acknowledged is returned again: that call's answer was lost.

        Args:
            message_id: What is answered; within `expecting`.
            wait: Seconds.
            bounces: Whether the control plane's word that it came back is an answer.
        """
        process = self._process
        try:
            async with asyncio.timeout(wait):
                while process == self._process and not self._answers(message_id, bounces=bounces):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return None
        async with self._answering:
            found = self._answers(message_id, bounces=bounces) if process == self._process else []
            return (await self._show(found))[0] if found else None

    def _answers(self, message_id: str, *, bounces: bool) -> list[tuple[str, Item]]:
        self._expire()
        answers = (pair for pair in self._held.answers(message_id) if bounces or pair[1].sender != CONDUCTOR)
        return list(islice(answers, 1))

    async def _show(self, chosen: Sequence[tuple[str, Item]]) -> list[message_service_pb2.ReceivedMessage]:
        new = [pair for pair in chosen if not pair[1].seen]
        for _, item in new:
            item.seen = True
        places = [(mailbox, item.position) for mailbox, item in new if item.position]
        attempts = [item.attempt for _, item in new if item.position]
        try:
            if places:
                told = receipts(places, message_pb2.MESSAGE_STATE_SEEN, attempts=attempts)
                await self._outbox.append(told, inbound.mark_seen(places))
        except BaseException:  # the agent hung up, or the disk is full: it has not got them
            self._held.show_again([item for _, item in new])
            self._journal.submit(inbound.mark_unseen(places))  # behind what may still be journalled: no process has seen them
            self._arrived.set()
            raise
        self._held.drop_shown()
        self._grant()
        return [self._shown(mailbox, item) for mailbox, item in chosen]

    def _shown(self, mailbox: str, item: Item) -> message_service_pb2.ReceivedMessage:
        message = item.received(mailbox)
        self.hops.fetched(message.envelope.id, item.hops)
        return message

    async def acknowledge(self, mailbox: str, positions: Sequence[int]) -> None:
        """Acknowledge messages; returns once that is journalled. What was acknowledged before is left alone.

        Raises:
            MessageNotFoundError: A position was never delivered to this mailbox; none is acknowledged then.
        """
        last = self._cursors.get(mailbox, 0)
        if unknown := [position for position in positions if not 0 <= position <= last]:
            raise MessageNotFoundError("This position was never delivered.", mailbox=mailbox, position=unknown[0])
        gone = sorted({position for position in positions if self._held.holds(mailbox, position)})
        if not gone:
            return
        places = [(mailbox, position) for position in gone]
        appended = self._outbox.append(receipts(places, message_pb2.MESSAGE_STATE_ACKED), inbound.delete(places))
        appended.add_done_callback(lambda done: self._acknowledged(done, places))
        await asyncio.shield(appended)  # the agent may hang up; what is journalled happened all the same

    def _acknowledged(self, appended: asyncio.Future[int], places: Sequence[tuple[str, int]]) -> None:
        if appended.cancelled() or appended.exception() is not None:
            return
        for mailbox, position in places:
            self._held.drop(mailbox, position)
        self._arrived.set()  # what waited behind a message that failed before may be shown now
        self._grant()

    def opened(self, mailbox: str) -> None:
        """Take messages for this task from now on."""
        self._open.add(mailbox)

    async def closed(self, mailbox: str) -> None:
        """Forget a mailbox: its task ended, and the control plane tells the senders."""
        self._open.discard(mailbox)
        self._held.drop_mailbox(mailbox)
        self._cursors.pop(mailbox, None)
        with suppress(StoreUnavailableError):  # logged; the next start forgets the mailboxes of tasks anyway
            await self._journal.submit(inbound.forget(mailbox))
        self._grant()

    async def new_process(self, mailbox: str, last_error: str = "") -> None:
        """Offer what an earlier process saw, also of a task it did not take, to the next; give up what was offered too often.

        Args:
            mailbox: Of the agent.
            last_error: How the earlier process ended, for the records of what is given up.
        """
        self._process += 1
        self._repeats.clear()
        self._arrived.set()  # who still waits for the process before waits for nothing
        async with self._answering:
            for each in (mailbox, *sorted(self._open)):
                await self._offer_again(each, last_error)
        self._grant()

    async def _offer_again(self, mailbox: str, last_error: str) -> None:
        seen = self._held.seen(mailbox)
        given_up = [item for item in seen if item.attempt >= self._attempts]
        attempts = [item.attempt for item in given_up]
        self._held.show_again(seen)
        for item in seen:
            item.attempt += 1
        if given_up:
            places = [(mailbox, item.position) for item in given_up]
            times = "once" if min(attempts) == 1 else f"{min(attempts)} times"
            why = f"delivered {times} without an acknowledgement"
            told = receipts(places, message_pb2.MESSAGE_STATE_DEAD, why, attempts, last_error)
            await self._outbox.append(told, inbound.delete(places))
            for item in given_up:
                self._held.drop(mailbox, item.position)
        await self._journal.submit(inbound.reoffer(mailbox))

    def _expire(self) -> None:
        """Forget what nobody has seen and whose time is over; the control plane notes its end by itself."""
        over = self._held.expire(int(self._clock.now() * 1000))
        if over is None:
            return
        if over:
            self._journal.submit(inbound.delete(over))
        self._grant()

    def _unseen(self, most: int) -> list[tuple[str, Item]]:
        self._expire()
        waiting = (pair for pair in self._held.offered() if pair[1].answers not in self._expected)
        chosen: list[tuple[str, Item]] = []
        size = 0
        for mailbox, item in islice(waiting, most):
            size += len(item.envelope)
            if chosen and size > FETCH_BYTES:
                break
            chosen.append((mailbox, item))
        return chosen

    def _grant(self, *, always: bool = False) -> None:
        """Grant credit once a quarter of the bound is free of it; first of all whatever there is, be it none."""
        messages, size = self._held.size
        more = [max(0, self._limits.messages - messages - self._granted[0]), max(0, self._limits.bytes - size - self._granted[1])]
        if always or more[0] * 4 >= self._limits.messages or more[1] * 4 >= self._limits.bytes:
            self._granted = [self._granted[0] + more[0], self._granted[1] + more[1]]
            self._on_credit(*more)


def _nobody(messages: int, size: int) -> None:
    """There is no session."""

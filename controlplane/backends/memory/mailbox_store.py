"""Where messages wait when nothing has to survive the process: one small object a message, no cleverness."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from controlplane.backends.memory.publications import MemoryPublications, seen_keys
from controlplane.domain.message import (
    Accepted,
    Behind,
    Copy,
    Full,
    IncomingFrame,
    Outcome,
    PartlyDuplicate,
    Receipt,
    Record,
    State,
    StoredFrame,
)
from controlplane.interfaces.mailbox_store import KEPT_MS, MailboxLimits, dead_reason, tenant_of
from controlplane.interfaces.publication_store import FULL


@dataclass(slots=True, eq=False)
class _Message:
    id: bytes
    position: int
    hops: list[tuple[State, int]]
    reason: str = ""
    attempts: int = 0

    @property
    def state(self) -> State:
        return self.hops[-1][0]


@dataclass(slots=True, eq=False)
class _Frame:
    origin: IncomingFrame
    messages: list[_Message]
    copy: bool = False
    """It is a publication's, which has the ids."""
    forgotten: bool = False

    @property
    def last_position(self) -> int:
        return self.messages[-1].position

    @property
    def ended(self) -> bool:
        return all(message.state.final for message in self.messages)

    @property
    def end_ms(self) -> int:
        return max(message.hops[-1][1] for message in self.messages)

    def record(self, message: _Message) -> Record:
        origin = self.origin
        return Record(
            message_id=message.id,
            sender=origin.sender,
            mailbox=origin.mailbox,
            type=origin.type,
            state=message.state,
            reason=message.reason,
            attempts=message.attempts,
            accept_time_ms=origin.accept_time_ms,
            state_time_ms=message.hops[-1][1],
            expire_time_ms=origin.expire_time_ms,
            position=message.position,
            hops=tuple(message.hops),
        )

    def stored(self) -> StoredFrame:
        origin = self.origin
        return StoredFrame(
            mailbox=origin.mailbox,
            sender=origin.sender,
            type=origin.type,
            message_ids=origin.message_ids,
            expire_time_ms=origin.expire_time_ms,
            frame=origin.frame,
            accept_time_ms=origin.accept_time_ms,
            first_position=self.messages[0].position,
            attempt=max(message.attempts for message in self.messages if not message.state.final) + 1,
            settled=frozenset(message.position for message in self.messages if message.state.final),
        )


@dataclass(slots=True)
class _Mailbox:
    next_position: int = 1
    messages: int = 0
    bytes: int = 0
    open: list[_Frame] = field(default_factory=list)

    def touched(self, first: int, last: int) -> Iterator[tuple[_Frame, _Message]]:
        """Yield the messages between two positions that are not final."""
        for frame in self.open[bisect_left(self.open, first, key=lambda frame: frame.last_position) :]:
            if frame.messages[0].position > last:
                return
            for message in frame.messages:
                if first <= message.position <= last and not message.state.final:
                    yield frame, message


class MemoryMailboxStore(MemoryPublications):
    """A MailboxStore in dictionaries. No method waits, so each is atomic."""

    def __init__(self, limits: MailboxLimits) -> None:
        super().__init__()
        self._limits = limits
        self._mailboxes: dict[str, _Mailbox] = {}
        self._frames: dict[str, dict[int, _Frame]] = {}

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        """See MailboxStore."""
        held: set[str] = set()
        outcomes: list[Outcome] = []
        for frame in frames:
            outcomes.append(Behind() if frame.mailbox in held else self._append(frame))
            if isinstance(outcomes[-1], PartlyDuplicate):
                held.add(frame.mailbox)
        return outcomes

    def _append(self, incoming: IncomingFrame) -> Outcome:
        repeated = self._repeated(incoming)
        if repeated is not None:
            return repeated
        if not self._room(incoming):
            return Full()
        self._seen.update((key, 0) for key in seen_keys(incoming))
        return Accepted(self._put(incoming).messages[0].position)

    def _room(self, incoming: IncomingFrame) -> bool:
        box = self._mailboxes.get(incoming.mailbox, _Mailbox())
        return box.messages + incoming.count <= self._limits.messages and box.bytes + len(incoming.frame) <= self._limits.bytes

    def _put(self, incoming: IncomingFrame, *, copy: bool = False) -> _Frame:
        mailbox = self._mailboxes.setdefault(incoming.mailbox, _Mailbox())
        first, hop = mailbox.next_position, (State.ACCEPTED, incoming.accept_time_ms)
        ids = [key for _, _, key in seen_keys(incoming)]
        frame = _Frame(incoming, [_Message(key, first + index, [hop]) for index, key in enumerate(ids)], copy)
        mailbox.next_position += len(ids)
        mailbox.messages += len(ids)
        mailbox.bytes += len(incoming.frame)
        mailbox.open.append(frame)
        self._frames.setdefault(tenant_of(incoming.mailbox), {})[id(frame)] = frame
        return frame

    def _place(self, frame: IncomingFrame, now_ms: int) -> Copy:
        room = self._room(frame)
        put = self._put(frame, copy=True)
        dead = [] if room else [self._move(put, message, State.DEAD, FULL, now_ms) for message in put.messages]
        return Copy(frame.mailbox, put.messages[0].position, tuple(dead))

    async def read(self, mailbox: str, after_position: int, max_bytes: int) -> Sequence[StoredFrame]:
        """See MailboxStore."""
        found: list[StoredFrame] = []
        box = self._mailboxes.get(mailbox, _Mailbox())
        wanted = {id(frame): frame for frame, _ in box.touched(after_position + 1, box.next_position)}
        for frame in wanted.values():
            max_bytes -= len(frame.origin.frame)
            if found and max_bytes < 0:
                break
            found.append(frame.stored())
        return found

    async def begin_delivery(self, mailbox: str, from_position: int, to_position: int, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        dead: list[Record] = []
        for frame, message in list(self._mailboxes.get(mailbox, _Mailbox()).touched(from_position, to_position)):
            if message.attempts < self._limits.attempts:
                message.attempts += 1
            else:
                dead.append(self._move(frame, message, State.DEAD, dead_reason(message.attempts), now_ms))
        return dead

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> None:
        """See MailboxStore."""
        box = self._mailboxes.get(mailbox, _Mailbox())
        for receipt in receipts:
            for frame, message in list(box.touched(receipt.from_position, receipt.to_position)):
                if message.state.rank < receipt.state.rank:
                    self._move(frame, message, receipt.state, receipt.reason, now_ms)

    async def close(self, mailbox: str, reason: str, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        box = self._mailboxes.get(mailbox, _Mailbox())
        every = list(box.touched(1, box.next_position))
        return [self._move(frame, message, State.BOUNCED, reason, now_ms) for frame, message in every]

    async def expire(self, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        over = [
            (frame, message)
            for mailbox in self._mailboxes.values()
            for frame, message in mailbox.touched(1, mailbox.next_position)
            if 0 < frame.origin.expire_time_ms <= now_ms
        ]
        expired = [self._move(frame, message, State.EXPIRED, "its time to live was over", now_ms) for frame, message in over]
        for frames in self._frames.values():
            self._forget(frames, now_ms)
        self._forget_publications(now_ms)
        return expired

    def _forget(self, frames: dict[int, _Frame], now_ms: int) -> None:
        ended = sorted((frame for frame in frames.values() if frame.ended), key=lambda frame: frame.end_ms)
        surplus = sum(len(frame.messages) for frame in ended if not frame.forgotten) - self._limits.kept
        for frame in ended:
            if not frame.forgotten and surplus > 0:
                frame.forgotten = True
                surplus -= len(frame.messages)
            if frame.end_ms <= now_ms - KEPT_MS:
                del frames[id(frame)]
                for key in () if frame.copy else seen_keys(frame.origin):
                    del self._seen[key]

    async def find(self, tenant_id: str, message_id: bytes) -> Sequence[tuple[Record, bytes]]:
        """See MailboxStore."""
        of_this_id = self._records(tenant_id, lambda _, message: message.id == message_id)
        return [(frame.record(message), frame.origin.frame) for frame, message in of_this_id]

    async def list(self, tenant_id: str, mailbox: str, states: frozenset[State], after: bytes, limit: int) -> Sequence[Record]:
        """See MailboxStore."""

        def wanted(frame: _Frame, message: _Message) -> bool:
            return (
                (not mailbox or frame.origin.mailbox == mailbox)
                and (not states or message.state in states)
                and (not after or message.id <= after[:16])
            )

        found = [frame.record(message) for frame, message in self._records(tenant_id, wanted)]
        below = [record for record in found if not after or record.key < after]
        return sorted(below, key=lambda record: record.key, reverse=True)[:limit]

    def _records(self, tenant: str, wanted: Callable[[_Frame, _Message], bool]) -> Iterator[tuple[_Frame, _Message]]:
        for frame in self._frames.get(tenant, {}).values():
            for message in frame.messages:
                if not frame.forgotten and wanted(frame, message):
                    yield frame, message

    def _move(self, frame: _Frame, message: _Message, state: State, reason: str, now_ms: int) -> Record:
        message.hops.append((state, now_ms))
        message.reason = reason
        if state.final:
            mailbox = self._mailboxes[frame.origin.mailbox]
            mailbox.messages -= 1
            if frame.ended:
                mailbox.bytes -= len(frame.origin.frame)
                mailbox.open.remove(frame)
        return frame.record(message)

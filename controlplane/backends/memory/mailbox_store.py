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
    Letter,
    NotDead,
    Outcome,
    PartlyDuplicate,
    Receipt,
    Record,
    Redrive,
    State,
    StoredFrame,
)
from controlplane.domain.routing import CONDUCTOR
from controlplane.interfaces.mailbox_store import KEPT_MS, MOST_HOPS, MailboxLimits, dead_reason, shown, tenant_of
from controlplane.interfaces.publication_store import FULL


@dataclass(slots=True, eq=False)
class _Message:
    id: bytes
    position: int
    hops: list[tuple[State, int]]
    reason: str = ""
    attempts: int = 0
    last_error: str = ""
    gone: bool = False
    """Removed, or sent again as a message of another frame."""
    moved: bool = False
    """Sent again: the other frame keeps its id."""

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
    left: int = field(init=False)
    """How many are not final; counted, because asking each message for each receipt costs the square of a frame."""

    def __post_init__(self) -> None:
        self.left = len(self.messages)

    @property
    def last_position(self) -> int:
        return self.messages[-1].position

    @property
    def ended(self) -> bool:
        return self.left == 0

    @property
    def end_ms(self) -> int:
        return max(message.hops[-1][1] for message in self.messages)

    def empty(self) -> None:
        """Forget what it said."""
        self.origin = self.origin._replace(frame=b"")

    def empty_if_settled(self) -> None:
        """Forget what it said once nobody can ask for it: everything is acknowledged or gone."""
        if all(message.gone or message.state is State.ACKED for message in self.messages):
            self.empty()

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
            last_error=message.last_error,
        )

    def stored(self) -> StoredFrame:
        origin = self.origin
        attempts = tuple(message.attempts + 1 for message in self.messages)
        open_ones = {message.attempts + 1 for message in self.messages if not message.state.final}
        return StoredFrame(
            mailbox=origin.mailbox,
            sender=origin.sender,
            type=origin.type,
            message_ids=origin.message_ids,
            expire_time_ms=origin.expire_time_ms,
            frame=origin.frame,
            accept_time_ms=origin.accept_time_ms,
            first_position=self.messages[0].position,
            attempt=max(open_ones),
            settled=frozenset(message.position for message in self.messages if message.state.final),
            attempts=attempts if len(open_ones) > 1 else (),
        )


@dataclass(slots=True)
class _Mailbox:
    next_position: int = 1
    messages: int = 0
    bytes: int = 0
    open: list[_Frame] = field(default_factory=list)

    def touched(self, first: int, last: int) -> Iterator[tuple[_Frame, _Message]]:
        """Yield the messages between two positions that are not final."""
        start = bisect_left(self.open, first, key=lambda frame: frame.last_position)
        for index in range(start, len(self.open)):
            frame = self.open[index]
            if frame.messages[0].position > last:
                return
            for message in frame.messages:
                if first <= message.position <= last and not message.state.final:
                    yield frame, message


class MemoryMailboxStore(MemoryPublications):
    """A LetterStore in dictionaries. No method waits, so each is atomic."""

    def __init__(self, limits: MailboxLimits) -> None:
        super().__init__()
        self._limits = limits
        self._mailboxes: dict[str, _Mailbox] = {}
        self._frames: dict[str, dict[int, _Frame]] = {}
        self._owed: dict[tuple[str, int], tuple[_Frame, _Message]] = {}

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        """See MailboxStore."""
        outcomes: list[Outcome] = []
        held: set[tuple[str, str]] = set()
        for frame in frames:
            pair = (frame.mailbox, frame.sender)
            outcomes.append(Behind() if pair in held else self._append(frame))
            if isinstance(outcomes[-1], PartlyDuplicate):
                held.add(pair)
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
        box = self._mailboxes.setdefault(incoming.mailbox, _Mailbox())
        return box.messages + incoming.messages <= self._limits.messages and box.bytes + len(incoming.frame) <= self._limits.bytes

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
        if dead:
            self._forget_heavy(self._frames[tenant_of(frame.mailbox)])
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

    async def give_up(self, mailbox: str, from_position: int, to_position: int, last_error: str, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        dead: list[Record] = []
        for frame, message in list(self._mailboxes.get(mailbox, _Mailbox()).touched(from_position, to_position)):
            if message.attempts >= self._limits.attempts:
                dead.append(self._move(frame, message, State.DEAD, dead_reason(message.attempts), now_ms, last_error))
        return dead

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        box = self._mailboxes.get(mailbox, _Mailbox())
        ended: list[Record] = []
        for receipt in receipts:
            for frame, message in list(box.touched(receipt.from_position, receipt.to_position)):
                before, message.attempts = message.attempts, shown(receipt, message.attempts)
                further = receipt.state is message.state and before < message.attempts and len(message.hops) < MOST_HOPS
                if further:
                    message.hops.append((message.state, now_ms))
                if message.state.rank < receipt.state.rank:
                    moved = self._move(frame, message, receipt.state, receipt.reason, now_ms, receipt.last_error)
                    if moved.state.final and moved.state is not State.ACKED:
                        ended.append(moved)
        return ended

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
            self._forget_heavy(frames)
            self._forget(frames, now_ms)
        self._forget_publications(now_ms)
        return expired

    async def end(self, mailbox: str) -> int:
        """See MailboxStore."""
        return self._mailboxes.get(mailbox, _Mailbox()).next_position - 1

    async def advance(self, mailbox: str, position: int) -> None:
        """See MailboxStore."""
        box = self._mailboxes.setdefault(mailbox, _Mailbox())
        box.next_position = max(box.next_position, position + 1)

    def _forget_heavy(self, frames: dict[int, _Frame]) -> None:
        """Forget the oldest final frames beyond the bytes that are kept, but not their ids."""
        heavy = sorted((frame for frame in frames.values() if frame.ended and frame.origin.frame), key=lambda frame: frame.end_ms)
        surplus = sum(len(frame.origin.frame) for frame in heavy) - self._limits.kept_bytes
        for frame in heavy:
            if surplus <= 0:
                return
            surplus -= len(frame.origin.frame)
            frame.forgotten = True
            frame.empty()

    def _forget(self, frames: dict[int, _Frame], now_ms: int) -> None:
        ended = sorted((frame for frame in frames.values() if frame.ended), key=lambda frame: frame.end_ms)
        surplus = sum(len(frame.messages) for frame in ended if not frame.forgotten) - self._limits.kept
        for frame in ended:
            if not frame.forgotten and (surplus > 0 or frame.end_ms <= now_ms - self._limits.kept_ms):
                frame.forgotten = True
                frame.empty()
                surplus -= len(frame.messages)
            if frame.end_ms <= now_ms - max(KEPT_MS, self._limits.kept_ms):
                del frames[id(frame)]
                for message, key in zip(frame.messages, seen_keys(frame.origin), strict=True):
                    self._owed.pop((frame.origin.mailbox, message.position), None)
                    if not (frame.copy or message.moved):
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
                if not (frame.forgotten or message.gone) and wanted(frame, message):
                    yield frame, message

    async def redrive(self, letters: Sequence[Redrive], now_ms: int) -> Sequence[Accepted | Full | NotDead]:
        """See LetterStore."""
        found = self._find_letters({again.letter for again in letters})
        return [self._redrive(again, found.get(again.letter), now_ms) for again in letters]

    def _redrive(self, again: Redrive, found: tuple[_Frame, _Message] | None, now_ms: int) -> Accepted | Full | NotDead:
        if found is None or found[1].gone:
            return NotDead()
        frame, old = found
        origin = frame.origin._replace(message_ids=old.id, frame=again.frame, expire_time_ms=again.expire_time_ms)
        if not self._room(origin):
            return Full()
        old.gone = old.moved = True
        frame.empty_if_settled()
        (new,) = self._put(origin, copy=frame.copy).messages
        new.hops, new.reason = [*old.hops, (State.ACCEPTED, now_ms)], again.reason
        return Accepted(new.position)

    async def purge(self, letters: Sequence[Letter], now_ms: int) -> Sequence[Record]:
        """See LetterStore."""
        del now_ms
        removed: list[Record] = []
        for frame, message in self._find_letters(set(letters)).values():
            removed.append(frame.record(message))
            message.gone = True
            frame.empty_if_settled()
        return removed

    def _find_letters(self, letters: set[Letter]) -> dict[Letter, tuple[_Frame, _Message]]:
        """Return those that are dead letters, in one look at everything."""
        found: dict[Letter, tuple[_Frame, _Message]] = {}
        for tenant in {tenant_of(letter.mailbox) for letter in letters}:
            for frame, message in self._records(tenant, lambda _, message: message.state is State.DEAD):
                letter = Letter(message.id, frame.origin.mailbox, message.position)
                if letter in letters:
                    found[letter] = frame, message
        return found

    async def owed(self, limit: int) -> Sequence[Record]:
        """See LetterStore."""
        oldest = sorted(self._owed.values(), key=lambda pair: (pair[1].hops[-1][1], pair[0].origin.mailbox, pair[1].position))
        return [frame.record(message) for frame, message in oldest[:limit]]

    async def told(self, records: Sequence[Record]) -> None:
        """See LetterStore."""
        for record in records:
            self._owed.pop((record.mailbox, record.position), None)

    def _move(self, frame: _Frame, message: _Message, state: State, reason: str, now_ms: int, last_error: str = "") -> Record:
        message.hops.append((state, now_ms))
        message.reason = reason
        message.last_error = last_error
        if state is State.BOUNCED and frame.origin.sender != CONDUCTOR:
            self._owed[frame.origin.mailbox, message.position] = (frame, message)
        if state.final:
            mailbox = self._mailboxes[frame.origin.mailbox]
            mailbox.messages -= 1
            frame.left -= 1
            if frame.ended:
                mailbox.bytes -= len(frame.origin.frame)
                mailbox.open.remove(frame)
                frame.empty_if_settled()
        return frame.record(message)

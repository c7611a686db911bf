"""What should a mailbox store answer? A list of messages and the sentences of its contract, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controlplane.domain.message import (
    Accepted,
    Behind,
    Duplicate,
    Full,
    IncomingFrame,
    Outcome,
    PartlyDuplicate,
    Receipt,
    State,
)
from controlplane.interfaces.mailbox_store import KEPT_MS, MOST_HOPS, MailboxLimits, tenant_of

Place = tuple[str, int]
"""A message: its mailbox and position."""


@dataclass(eq=False)
class Message:
    """One message."""

    id: bytes
    frame: IncomingFrame
    position: int
    hops: list[tuple[State, int]]
    attempts: int = 0

    @property
    def state(self) -> State:
        return self.hops[-1][0]

    @property
    def place(self) -> Place:
        return self.frame.mailbox, self.position


@dataclass
class Model:
    """Every message ever accepted and not forgotten."""

    limits: MailboxLimits
    frames: list[list[Message]] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)

    def messages(self, mailbox: str = "") -> list[Message]:
        return [each for frame in self.frames for each in frame if not mailbox or each.frame.mailbox == mailbox]

    def open(self, mailbox: str, first: int = 0, last: int = 1 << 60) -> list[Message]:
        return [each for each in self.messages(mailbox) if not each.state.final and first <= each.position <= last]

    def used(self, mailbox: str) -> tuple[int, int]:
        """Return what counts against the bounds: open messages, and bytes of frames with one."""
        frames = [frame for frame in self.frames if frame[0].frame.mailbox == mailbox]
        size = sum(len(frame[0].frame.frame) for frame in frames if any(not each.state.final for each in frame))
        return len(self.open(mailbox)), size

    def append(self, frames: Sequence[IncomingFrame]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        held: set[tuple[str, str]] = set()
        for frame in frames:
            pair = (frame.mailbox, frame.sender)
            outcome = Behind() if pair in held else self._append(frame)
            if isinstance(outcome, PartlyDuplicate):
                held.add(pair)
            outcomes.append(outcome)
        return outcomes

    def _append(self, frame: IncomingFrame) -> Outcome:
        ids = [frame.message_ids[start : start + 16] for start in range(0, len(frame.message_ids), 16)]
        tenant = tenant_of(frame.mailbox)
        known = {
            each.id for each in self.messages() if each.frame.sender == frame.sender and tenant_of(each.frame.mailbox) == tenant
        }
        repeated = frozenset(index for index, key in enumerate(ids) if key in known or key in ids[:index])
        if len(repeated) == len(ids):
            return Duplicate()
        if repeated:
            return PartlyDuplicate(repeated)
        messages, size = self.used(frame.mailbox)
        if messages + len(ids) > self.limits.messages or size + len(frame.frame) > self.limits.bytes:
            return Full()
        first = self.positions.get(frame.mailbox, 0) + 1
        self.positions[frame.mailbox] = first + len(ids) - 1
        hop = (State.ACCEPTED, frame.accept_time_ms)
        self.frames.append([Message(key, frame, first + index, [hop]) for index, key in enumerate(ids)])
        return Accepted(first)

    def give_up(self, mailbox: str, first: int, last: int, now_ms: int) -> list[Place]:
        dead = [each for each in self.open(mailbox, first, last) if each.attempts >= self.limits.attempts]
        return self._end(dead, State.DEAD, now_ms)

    def record(self, mailbox: str, receipts: Iterable[Receipt], now_ms: int) -> list[Place]:
        ended: list[Place] = []
        for receipt in receipts:
            for each in self.open(mailbox, receipt.from_position, receipt.to_position):
                before = each.attempts
                fetched = receipt.state in {State.SEEN, State.ACKED}
                each.attempts = max(before, receipt.attempt, int(fetched))
                again = receipt.state is each.state and each.attempts > before and len(each.hops) < MOST_HOPS
                if again or receipt.state.rank > each.state.rank:
                    each.hops.append((receipt.state, now_ms))
                if each.state.final and each.state is not State.ACKED:
                    ended.append(each.place)
        return ended

    def advance(self, mailbox: str, position: int) -> None:
        self.positions[mailbox] = max(self.positions.get(mailbox, 0), position)

    def close(self, mailbox: str, now_ms: int) -> list[Place]:
        return self._end(self.open(mailbox), State.BOUNCED, now_ms)

    def expire(self, now_ms: int) -> list[Place]:
        over = [each for each in self.open("") if 0 < each.frame.expire_time_ms <= now_ms]
        places = self._end(over, State.EXPIRED, now_ms)
        self.frames = [frame for frame in self.frames if not self._forgotten(frame, now_ms)]
        return places

    def _end(self, messages: Sequence[Message], state: State, now_ms: int) -> list[Place]:
        for each in messages:
            each.hops.append((state, now_ms))
        return [each.place for each in messages]

    def _forgotten(self, frame: Sequence[Message], now_ms: int) -> bool:
        return all(each.state.final for each in frame) and max(each.hops[-1][1] for each in frame) <= now_ms - KEPT_MS

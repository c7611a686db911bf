"""What the control plane knows of a message: the frame around it and where it stands. It never looks inside an envelope.

What is made for every frame is a NamedTuple, here and in `service`: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class State(enum.Enum):
    """Where a message stands, per recipient. The names are those of the proto's MessageState; order is progress."""

    ACCEPTED = "accepted"
    AT_SIDECAR = "at_sidecar"
    SEEN = "seen"
    ACKED = "acked"
    EXPIRED = "expired"
    BOUNCED = "bounced"
    DEAD = "dead"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self._value_ not in _RANKS

    @property
    def rank(self) -> int:
        """Larger is later; a message never goes to a smaller rank, and never from one final state to another."""
        return _RANKS.get(self._value_, 3)


_RANKS = {"accepted": 0, "at_sidecar": 1, "seen": 2}
"""By value, because hashing a member is slow and this is asked for every receipt."""


class Quality(enum.Enum):
    """What "accepted" means."""

    DURABLE = "durable"
    EPHEMERAL = "ephemeral"


class Header(NamedTuple):
    """The routing header of a frame, as its sender wrote it."""

    recipient: str
    type: str
    quality: Quality
    hop_count: int
    expire_time_ms: int
    message_ids: bytes
    """16 bytes each, in order."""
    task_id: str = ""
    """The task in whose name it is sent; a claim that is checked."""

    @property
    def messages(self) -> int:
        """How many messages the frame carries."""
        return len(self.message_ids) // 16


class IncomingFrame(NamedTuple):
    """A frame that passed every check and is to be stored."""

    mailbox: str
    """Agent id or `task/ID`, prefixed with its tenant: `default/agent-1`, `default/task/task_...`."""
    sender: str
    """The authenticated sender: `agent/ID`, `task/ID` or `operator`."""
    type: str
    message_ids: bytes
    expire_time_ms: int
    frame: bytes
    """The serialised MessageFrame, exactly as sent."""
    accept_time_ms: int
    recipients: tuple[str, ...] | None = None
    """Of a publication: the mailboxes that get a copy; `mailbox` is then the topic's name with its tenant, and none."""

    @property
    def messages(self) -> int:
        """How many messages it carries."""
        return len(self.message_ids) // 16

    def first_shown(self, first_position: int) -> StoredFrame:
        """Return it as it is delivered for the first time; position 0: it has no place in a mailbox."""
        return StoredFrame(
            mailbox=self.mailbox,
            sender=self.sender,
            type=self.type,
            message_ids=self.message_ids,
            expire_time_ms=self.expire_time_ms,
            frame=self.frame,
            accept_time_ms=self.accept_time_ms,
            first_position=first_position,
            attempt=1,
        )


class StoredFrame(NamedTuple):
    """A frame in a mailbox."""

    mailbox: str
    sender: str
    type: str
    message_ids: bytes
    expire_time_ms: int
    frame: bytes
    accept_time_ms: int
    first_position: int
    """Position of its first message; the others follow. Positions of a mailbox start at 1, have no gaps and never repeat."""
    attempt: int
    """How often an agent process was shown it, plus one: what the next delivery shall say. The highest of its open messages."""
    settled: frozenset[int] = frozenset()
    """Positions within this frame that are final already and must not be shown again."""
    attempts: tuple[int, ...] = ()
    """The same for each message, where they are not all alike; else empty."""

    @property
    def last_position(self) -> int:
        """Position of its last message."""
        return self.first_position + len(self.message_ids) // 16 - 1

    def attempt_of(self, position: int) -> int:
        """Return what the next delivery of one of its messages shall say."""
        return self.attempts[position - self.first_position] if self.attempts else self.attempt


@dataclass(frozen=True, slots=True)
class Receipt:
    """Consecutive messages of a mailbox that reached a state; bounds inclusive."""

    from_position: int
    to_position: int
    state: State
    reason: str = ""
    attempt: int = 0
    """How many agent processes were shown it, the present one included; 0 if who reports does not count."""
    last_error: str = ""
    """Of a dead letter: how the last agent process that was shown it ended."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message with its history. Times in milliseconds since the epoch."""

    message_id: bytes
    sender: str
    mailbox: str
    type: str
    state: State
    reason: str
    attempts: int
    accept_time_ms: int
    state_time_ms: int
    expire_time_ms: int
    position: int
    hops: tuple[tuple[State, int], ...] = ()
    """(state, time) in the order they were reached; SEEN for each process that was shown it, ACCEPTED each time it was sent."""
    last_error: str = ""
    """Of a dead letter: how the last agent process that was shown it ended."""

    @property
    def redrives(self) -> int:
        """How often it was sent again after it was dead."""
        return max(0, sum(state is State.ACCEPTED for state, _ in self.hops) - 1)

    @property
    def key(self) -> bytes:
        """Its place in lists, which go from the largest to the smallest: the id first, as several recipients share one."""
        return b"\0".join((self.message_id, self.sender.encode(), self.mailbox.encode()))


@dataclass(frozen=True, slots=True)
class Letter:
    """Names one dead letter."""

    message_id: bytes
    mailbox: str
    position: int


@dataclass(frozen=True, slots=True)
class Redrive:
    """A dead letter that is to be sent again."""

    letter: Letter
    frame: bytes
    """A serialised MessageFrame with this message alone."""
    expire_time_ms: int
    reason: str
    """Why it is ACCEPTED again, for its record."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The frame is stored."""

    first_position: int
    """0 if it has none: it is ephemeral or a publication."""
    recipients: int = 1
    """How many mailboxes it goes to."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Every message of the frame was accepted before; nothing was stored."""

    recipients: int = 1
    """How many mailboxes it went to."""


@dataclass(frozen=True, slots=True)
class PartlyDuplicate:
    """Some messages were accepted before; nothing was stored. The caller sends the others as a new frame."""

    indexes: frozenset[int]
    """Which of the frame's messages were accepted before."""


@dataclass(frozen=True, slots=True)
class Behind:
    """An earlier frame of its sender to its mailbox is PartlyDuplicate; nothing was stored, or this one would overtake it."""


@dataclass(frozen=True, slots=True)
class Full:
    """The mailbox is at its bound; nothing was stored."""


@dataclass(frozen=True, slots=True)
class NotDead:
    """What should be sent again is no dead letter (any more); nothing was changed."""


Outcome = Accepted | Duplicate | PartlyDuplicate | Behind | Full


@dataclass(frozen=True, slots=True)
class Publication:
    """A frame for several mailboxes, stored once, and how far its copies are."""

    number: int
    """The store's; later publications have larger ones."""
    frame: IncomingFrame
    """With `recipients`. Once every copy is made its bytes are empty."""
    made: int
    """How many of the recipients, in their order, have their copy."""

    @property
    def left(self) -> int:
        """How many copies are to be made."""
        return len(self.frame.recipients or ()) - self.made


@dataclass(frozen=True, slots=True)
class Copy:
    """A publication's copy in one mailbox."""

    mailbox: str
    first_position: int
    dead: tuple[Record, ...] = ()
    """The mailbox had no room: the copy is a dead letter from the beginning, a record for each message."""

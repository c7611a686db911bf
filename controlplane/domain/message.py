"""What the control plane knows of a message: the frame around it and where it stands. It never looks inside an envelope."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Header:
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
    def count(self) -> int:
        """How many messages the frame carries."""
        return len(self.message_ids) // 16


@dataclass(frozen=True, slots=True)
class IncomingFrame:
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
    def count(self) -> int:
        """How many messages it carries."""
        return len(self.message_ids) // 16


@dataclass(frozen=True, slots=True)
class StoredFrame:
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
    """Deliveries begun before, plus one: what the next delivery shall say."""
    settled: frozenset[int] = frozenset()
    """Positions within this frame that are final already and must not be shown again."""

    @property
    def last_position(self) -> int:
        """Position of its last message."""
        return self.first_position + len(self.message_ids) // 16 - 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """Consecutive messages of a mailbox that reached a state; bounds inclusive."""

    from_position: int
    to_position: int
    state: State
    reason: str = ""


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
    """(state, time) in the order they were reached."""

    @property
    def key(self) -> bytes:
        """Its place in lists, which go from the largest to the smallest: the id first, as several recipients share one."""
        return b"\0".join((self.message_id, self.sender.encode(), self.mailbox.encode()))


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
class Full:
    """The mailbox is at its bound; nothing was stored."""


@dataclass(frozen=True, slots=True)
class Behind:
    """A frame before it in the same call, for the same mailbox, is partly a repeat; nothing was stored, so that order is kept."""


Outcome = Accepted | Duplicate | PartlyDuplicate | Full | Behind


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

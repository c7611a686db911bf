"""What happened, as the agents and the store saw it: the checker's only source."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.domain.message import Record


@dataclass(frozen=True)
class Letter:
    """A message as its sender made it. `number` counts the letters of this (sender, quality) as they were begun."""

    id: bytes
    sender: str
    recipient: str
    durable: bool
    number: int
    expire_time_ms: int = 0
    to: tuple[str, ...] = ()
    """Of a message to many: who gets it."""
    asked: bool = False
    """Its sender waits for the answer."""
    answers: bytes = b""
    """The question it answers."""

    @property
    def shared(self) -> bool:
        return self.recipient == "broadcast" or self.recipient.startswith("topic/")

    @property
    def readers(self) -> tuple[str, ...]:
        return self.to if self.shared else (self.recipient,)


@dataclass(frozen=True)
class Sending:
    """An attempt to send it begins; without an answer nobody knows."""

    id: bytes


@dataclass(frozen=True)
class Sent:
    """What its sender was told: `accepted`, `refused` (for good), or `unknown`."""

    id: bytes
    answer: str
    reason: str = ""
    recipients: int = 1
    """Of one that was accepted: how many mailboxes it goes to."""


@dataclass(frozen=True)
class Shown:
    """A message was handed to an agent process."""

    id: bytes
    agent: str
    process: int
    """Processes of one agent are numbered from 1."""
    mailbox: str
    position: int
    attempt: int
    claimed: str
    """Whom the sidecar named as the sender."""
    time_ms: int
    reply_to: bytes = b""
    """The question whose asker it was handed to, as its answer."""


@dataclass(frozen=True)
class Asking:
    """An agent process begins to wait for the answer to a question, before it is sent."""

    id: bytes
    agent: str
    process: int


@dataclass(frozen=True)
class Waited:
    """It does not wait any more."""

    id: bytes
    agent: str
    process: int


@dataclass(frozen=True)
class Redriving:
    """Somebody asks for a dead letter to be sent again, wherever it is one."""

    id: bytes


@dataclass(frozen=True)
class Acking:
    """An agent process has asked for the acknowledgement of a message."""

    id: bytes
    agent: str


@dataclass(frozen=True)
class Acked:
    """It was told that the message is acknowledged."""

    id: bytes
    agent: str


@dataclass(frozen=True)
class JournalLost:
    """The disk of an agent's sidecar was lost."""

    agent: str


Happening = Letter | Sending | Sent | Shown | Asking | Waited | Redriving | Acking | Acked | JournalLost


@dataclass
class History:
    """Everything that was seen of one schedule, in order, and what the store said at its end."""

    happenings: list[Happening] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    notices: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Stored notices of a bounce: (id of the notice, id of the message that bounced)."""
    revived: set[tuple[bytes, str]] = field(default_factory=set)
    """(id, mailbox) of the dead letters that were sent again when nothing failed any more."""
    small_mailboxes: bool = False
    """A mailbox may have been full, so that a notice found no room."""
    max_attempts: int = 5
    """Agent processes a message is given before it is a dead letter."""
    troubles: list[str] = field(default_factory=list)
    """Crashes, bugs, leaks and things that did not come to rest."""

    def add(self, happening: Happening) -> None:
        self.happenings.append(happening)

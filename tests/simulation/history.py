"""What happened, as the agents and the store saw it: the checker's only source."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.domain.message import Record


@dataclass(frozen=True)
class Letter:
    """A message as its sender made it. `number` counts the letters of this (sender, recipient, quality)."""

    id: bytes
    sender: str
    recipient: str
    durable: bool
    number: int
    expire_time_ms: int = 0


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


Happening = Letter | Sending | Sent | Shown | Acking | Acked | JournalLost


@dataclass
class History:
    """Everything that was seen of one schedule, in order, and what the store said at its end."""

    happenings: list[Happening] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    notices: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Stored notices of a bounce: (id of the notice, id of the message that bounced)."""
    small_mailboxes: bool = False
    """A mailbox may have been full, so that a notice found no room."""
    max_attempts: int = 5
    """Agent processes a message is given before it is a dead letter."""
    troubles: list[str] = field(default_factory=list)
    """Crashes, bugs, leaks and things that did not come to rest."""

    def add(self, happening: Happening) -> None:
        self.happenings.append(happening)

"""Where messages live between accept and acknowledgement: frames in mailboxes, with a state for each message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.domain.message import IncomingFrame, Outcome, Receipt, Record, State, StoredFrame
from controlplane.interfaces.publication_store import PublicationStore

KEPT_MS = 24 * 3600 * 1000
"""How long final messages and their dedupe entries are kept."""


def tenant_of(mailbox: str) -> str:
    """Return the tenant a mailbox belongs to."""
    return mailbox.partition("/")[0]


def dead_reason(attempts: int) -> str:
    """Return what the record of a dead letter says."""
    return f"delivered {attempts} times without an acknowledgement"


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """Bounds of one mailbox; counted over messages that are not final."""

    messages: int = 10_000
    bytes: int = 64 << 20
    """Sum of the frames with a message that is not final."""
    attempts: int = 5
    """Deliveries without an acknowledgement before a message is DEAD."""
    kept: int = 100_000
    """Final messages kept per tenant; the oldest beyond it are forgotten by `expire`."""


class MailboxStore(PublicationStore, Protocol):
    """Durable mailboxes. All methods may be called concurrently; each is atomic.

    Order: positions are assigned in the order of `append` calls, and within a call in the order of the sequence. A method that
    returns has made its change durable. A method that raises StoreUnavailableError changed nothing.
    Final messages are kept for 24 h or up to 100,000 per tenant, for `find` and `list` only.
    """

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        """Store frames, each wholly or not at all, and say what became of each.

        A message id is accepted once per (tenant, sender, id) within 24 h, whatever the mailbox; of an id that stands twice in
        one frame the second counts as accepted before. A frame without messages is a Duplicate. What stands behind a
        PartlyDuplicate for the same mailbox is Behind: its turn comes when the caller has sent what is new of that one.
        """

    async def read(self, mailbox: str, after_position: int, max_bytes: int) -> Sequence[StoredFrame]:
        """Return frames with a message after `after_position` that is not final, in order; at least one if there is one."""

    async def begin_delivery(self, mailbox: str, from_position: int, to_position: int, now_ms: int) -> Sequence[Record]:
        """Count a delivery of these messages; those that had as many as allowed already become DEAD and are returned."""

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> None:
        """Move messages to a later state; receipts that would move one back, or out of a final state, change nothing for it."""

    async def close(self, mailbox: str, reason: str, now_ms: int) -> Sequence[Record]:
        """Bounce every message that is not final; return them. The mailbox may be used again afterwards; positions go on."""

    async def expire(self, now_ms: int) -> Sequence[Record]:
        """Mark messages whose time is over EXPIRED and return those; forget dedupe entries and final messages past keeping.

        A frame and its dedupe entries are forgotten together, 24 h after the last of its messages became final. An
        `expire_time_ms` of 0 is never over.
        """

    async def find(self, tenant_id: str, message_id: bytes) -> Sequence[tuple[Record, bytes]]:
        """Return each record of this id with the frame it travelled in (empty bytes if no longer kept)."""

    async def list(self, tenant_id: str, mailbox: str, states: frozenset[State], after: bytes, limit: int) -> Sequence[Record]:
        """Return records, newest id first; `after` (keys below it, an id being one), `mailbox`, `states` filter if not empty."""

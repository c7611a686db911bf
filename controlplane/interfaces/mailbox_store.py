"""Where messages live between accept and acknowledgement: frames in mailboxes, with a state for each message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.domain.message import IncomingFrame, Outcome, Receipt, Record, State, StoredFrame
from controlplane.interfaces.publication_store import PublicationStore

KEPT_MS = 24 * 3600 * 1000
"""How long ids are kept after their messages became final, so that a repeat is recognised; and, by default, the messages."""


def tenant_of(mailbox: str) -> str:
    """Return the tenant a mailbox belongs to."""
    return mailbox.partition("/")[0]


def dead_reason(attempts: int) -> str:
    """Return what the record of a dead letter says."""
    return f"delivered {'once' if attempts == 1 else f'{attempts} times'} without an acknowledgement"


MOST_HOPS = 64
"""Steps of a message that are noted; further processes that are shown it are counted only."""


def shown(receipt: Receipt, before: int) -> int:
    """Return how many agent processes were shown a message after this receipt.

    A session that breaks, and a delivery that only reached a sidecar's journal, are none: what counts is who fetched it.
    """
    at_least = 1 if receipt.state in {State.SEEN, State.ACKED} else 0
    return max(before, receipt.attempt, at_least)


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """Bounds of one mailbox; counted over messages that are not final."""

    messages: int = 10_000
    bytes: int = 64 << 20
    """Sum of the frames with a message that is not final."""
    attempts: int = 5
    """Agent processes that are shown a message without acknowledging it before it is DEAD."""
    kept: int = 100_000
    """Final messages kept per tenant; the oldest beyond it are forgotten by `expire`."""
    kept_ms: int = KEPT_MS
    """How long final messages are kept; their ids for at least 24 h."""
    kept_bytes: int = 1 << 30
    """Of the frames of final messages, per tenant; a frame whose messages are all ACKED keeps none. The oldest beyond it are
    forgotten by `expire`, and by `copy` when it makes dead ones."""


class MailboxStore(PublicationStore, Protocol):
    """Durable mailboxes. All methods may be called concurrently; each is atomic.

    Order: positions are assigned in the order of `append` calls, and within a call in the order of the sequence. A method that
    returns has made its change durable. One that raises StoreUnavailableError changed nothing, or (after a lost connection)
    nobody knows; then the same call again tells: what was accepted is a Duplicate, what was moved on moves no further.
    Final messages are kept for a time and up to a number and a size per tenant (MailboxLimits), for `find` and `list` only.
    """

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        """Store frames, each wholly or not at all, and say what became of each.

        A message id is accepted once per (tenant, sender, id) within 24 h, whatever the mailbox; of an id that stands twice in
        one frame the second counts as accepted before. A frame without messages is a Duplicate. Frames after one that is
        PartlyDuplicate, of its sender and to its mailbox, are Behind: the caller sends them again after what is left of that one.
        """

    async def read(self, mailbox: str, after_position: int, max_bytes: int) -> Sequence[StoredFrame]:
        """Return frames with a message after `after_position` that is not final, in order; at least one if there is one."""

    async def give_up(self, mailbox: str, from_position: int, to_position: int, last_error: str, now_ms: int) -> Sequence[Record]:
        """Before a delivery is repeated: messages shown to as many agent processes as allowed become DEAD and are returned."""

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> Sequence[Record]:
        """Move messages to a later state, and count attempts.

        Receipts that would move one back, or out of a final state, change nothing for it. SEEN counts an attempt (the receipt
        says which), so a repeated receipt counts none; a message SEEN by a further process has a further hop.

        Returns:
            What was ended without being acknowledged: BOUNCED or DEAD.
        """

    async def close(self, mailbox: str, reason: str, now_ms: int) -> Sequence[Record]:
        """Bounce every message that is not final; return them. The mailbox may be used again afterwards; positions go on.

        What is BOUNCED, here or by a receipt, is from the same moment on `owed` (see LetterStore).
        """

    async def expire(self, now_ms: int) -> Sequence[Record]:
        """Mark messages whose time is over EXPIRED and return those; forget dedupe entries and final messages past keeping.

        A frame's time begins when the last of its messages became final. Its dedupe entries are forgotten after 24 h, or with
        the frame if that is kept longer. An `expire_time_ms` of 0 is never over.
        """

    async def find(self, tenant_id: str, message_id: bytes) -> Sequence[tuple[Record, bytes]]:
        """Return each record of this id with the frame it travelled in (empty bytes if no longer kept)."""

    async def list(self, tenant_id: str, mailbox: str, states: frozenset[State], after: bytes, limit: int) -> Sequence[Record]:
        """Return records, newest id first; `after` (keys below it, an id being one), `mailbox`, `states` filter if not empty."""

    async def end(self, mailbox: str) -> int:
        """Return the last position that was given out, 0 if none was."""

    async def advance(self, mailbox: str, position: int) -> None:
        """Give out positions behind this one only, from now on. Positions never go back; repeating it is harmless."""

"""What becomes of messages that did not reach their recipient: dead letters, and bounces whose senders are still to be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.domain.message import Accepted, Full, Letter, NotDead, Record, Redrive
from controlplane.interfaces.mailbox_store import MailboxStore


class LetterStore(MailboxStore, Protocol):
    """A MailboxStore, seen by who looks after what went wrong in it. The same rules: concurrent, atomic, durable."""

    async def redrive(self, letters: Sequence[Redrive], now_ms: int) -> Sequence[Accepted | Full | NotDead]:
        """Accept dead letters again, each at the end of its mailbox, and say what became of each.

        A redriven message keeps its id, sender, type, time of acceptance and hops, to which ACCEPTED is added; its attempts start
        anew. Its old place shows nothing any more.
        """

    async def purge(self, letters: Sequence[Letter], now_ms: int) -> Sequence[Record]:
        """Remove those that are dead letters for good and return them; their ids stay known as long as those of others do.

        What they said is removed with the last message of their frame.
        """

    async def owed(self, limit: int) -> Sequence[Record]:
        """Return bounced messages whose senders were not told, oldest first; not those of senders that have no mailbox."""

    async def told(self, records: Sequence[Record]) -> None:
        """Note that the senders of these were told, or cannot be. Repeating it is harmless."""

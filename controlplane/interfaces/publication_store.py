"""Where a message for many lives until each of them has its copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from controlplane.domain.message import Copy, IncomingFrame, Outcome, Publication

FULL: Final = "the mailbox was full when the message was sent to its topic"
"""What the record of a copy says that found no room."""


class PublicationStore(Protocol):
    """Durable publications; one store with the mailboxes. All methods may be called concurrently; each is atomic.

    A publication is stored once, with the mailboxes that shall get it. `copy` makes the copies, some at a time; what is made
    and how far it came are one change, so that it can be stopped anywhere and goes on where it was.
    """

    async def publish(self, frame: IncomingFrame) -> tuple[Outcome, int]:
        """Store a frame with its `recipients`; return what became of it, and its number (0 if nothing was stored).

        Its ids are accepted once per (tenant, sender, id), together with those of `MailboxStore.append`: a Duplicate tells how
        many mailboxes the first of them went to. They are kept until 24 h after the frame expires. Never Full.
        """

    async def copy(self, number: int, most: int, now_ms: int) -> tuple[Sequence[Copy], int]:
        """Make the next `most` copies in the order of the recipients; return them, and how many are left.

        A copy is a frame of its mailbox as if it had been appended there now: it has positions, a state and an end of its own.
        Where the mailbox has no room it is DEAD from the beginning, with the reason FULL, and takes none.
        """

    async def unfinished(self) -> Sequence[Publication]:
        """Return the publications with copies left, in the order they were stored."""

    async def publication(self, tenant_id: str, message_id: bytes) -> Publication | None:
        """Return the publication with this id, or None; the newest if several senders used it."""

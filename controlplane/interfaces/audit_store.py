"""Where is the audit chain kept?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from claude_conductor.audit_chain import Head, Record


class AuditStore(Protocol):
    """Durable records and heads, only ever added. All methods may be called concurrently; each is atomic."""

    async def append(self, records: Sequence[Record]) -> bool:
        """Store records that follow the newest one; durable when it returns.

        False: somebody else has stored a record of the first one's number; nothing was stored.
        """

    async def state(self, head: Head) -> None:
        """Store a head; one of the same number is replaced."""

    async def read(self, after: int, limit: int) -> Sequence[Record]:
        """Return records above a number, in order."""

    async def newest(self) -> Record | None:
        """Return the newest record; None: there is none."""

    async def heads(self) -> Sequence[Head]:
        """Return every head, by number."""

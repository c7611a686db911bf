"""What happened, kept for a while, readable from a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.domain.events import Event

KEPT_EVENTS = 100_000
"""How many events a log keeps by default."""


class EventLog(Protocol):
    """A bounded log. Cursors start at 1, grow by one, and never repeat over the life of the store."""

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        """Store events in order and return them with their cursors. The oldest beyond the bound (100,000) are dropped."""

    async def read(self, after_cursor: int, limit: int) -> Sequence[Event]:
        """Return events with a larger cursor, in order."""

    async def bounds(self) -> tuple[int, int]:
        """Return (oldest kept cursor, newest cursor); (1, 0) for an empty log."""

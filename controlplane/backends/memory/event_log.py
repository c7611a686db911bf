"""What happened lately, as long as the process lives."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from controlplane.domain.events import Event
from controlplane.interfaces.event_log import KEPT_EVENTS


class MemoryEventLog:
    """An EventLog in a deque."""

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self._newest = 0

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        """See EventLog."""
        placed = [replace(event, cursor=self._newest + index) for index, event in enumerate(events, 1)]
        self._newest += len(placed)
        self._events.extend(placed)
        return placed

    async def read(self, after_cursor: int, limit: int) -> Sequence[Event]:
        """See EventLog."""
        oldest = self._newest - len(self._events) + 1
        start = max(0, after_cursor + 1 - oldest)
        return list(islice(self._events, start, start + limit))

    async def bounds(self) -> tuple[int, int]:
        """See EventLog."""
        return self._newest - len(self._events) + 1, self._newest

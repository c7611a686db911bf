"""What happened, in a stream of Redis whose ids are the cursors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controlplane.backends.codec import decode, encode
from controlplane.backends.redis.server import Server
from controlplane.domain.events import Event


class RedisEventLog:
    """An EventLog of at most `kept` events."""

    def __init__(self, server: Server, kept: int) -> None:
        self._server = server
        self._kept = kept
        self._key = server.key("g", "events")

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        """See EventLog."""
        if not events:
            return []
        newest = await self._server.change("append_events", "g", self._kept, *(encode(event) for event in events))
        return [replace(event, cursor=newest - len(events) + index) for index, event in enumerate(events, 1)]

    async def read(self, after_cursor: int, limit: int) -> Sequence[Event]:
        """See EventLog."""
        if limit <= 0:
            return []
        rows = await self._server.ask("XRANGE", self._key, f"{max(0, after_cursor) + 1}-0", "+", "COUNT", limit)
        return [replace(decode(Event, fields[1]), cursor=_cursor(identity)) for identity, fields in rows]

    async def bounds(self) -> tuple[int, int]:
        """See EventLog."""
        first, last = await self._server.look("bounds", "g")
        return first or 1, last


def _cursor(identity: bytes) -> int:
    return int(identity.partition(b"-")[0])

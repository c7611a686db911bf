"""How do events reach the log, and watchers?"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from claude_conductor.errors import StoreUnavailableError
from controlplane.domain.events import Event
from controlplane.interfaces.event_log import EventLog
from controlplane.service.meter import Meter
from controlplane.service.pulse import Pulse

_log = logging.getLogger(__name__)
_PENDING = 10_000
_RECENT = 1024
_PAGE = 256
_STORE_PAUSE = 0.5
GATHER_SECONDS = 0.02
"""How long an event may wait for others to be stored with. Watchers see it that much later, and nobody else waits for it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Cursors that are no longer kept, inclusive."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a watcher wants; empty fields do not filter."""

    tenant_id: str
    type_prefixes: tuple[str, ...] = ()
    task_id: str = ""

    def __call__(self, event: Event) -> bool:
        """Return whether the event is wanted."""
        return (
            event.tenant_id == self.tenant_id
            and (not self.task_id or event.task_id == self.task_id)
            and (not self.type_prefixes or event.type.startswith(self.type_prefixes))
        )


class Watch:
    """Takes events without holding up who publishes, appends them in groups, and shows them to watchers.

    A watcher keeps nothing here but its place: it reads from the log (the newest events from memory), so a slow one costs no
    memory and sees a gap only once the log itself has dropped what it had not read.
    """

    def __init__(self, log: EventLog, meter: Meter | None = None) -> None:
        self._events = log
        self._meter = meter
        self._pending: deque[Event] = deque(maxlen=_PENDING)
        self._arrived = asyncio.Event()
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        self._pulse = Pulse()
        self.dropped = 0
        """Events that were lost because the log took none for too long."""

    def publish(self, event: Event) -> None:
        """Take an event. It is not stored yet: events tell what happened, they are not what happened."""
        if self._meter is not None:
            self._meter.event(event)
        if len(self._pending) == _PENDING:
            self.dropped += 1
        self._pending.append(event)
        self._arrived.set()

    async def run(self) -> None:
        """Append what was published, for ever, with what comes within a moment: a task has half a dozen events.

        Each append is synced to the disk, and the next change of a task would wait for it.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if len(self._pending) < _PENDING // 4:
                await asyncio.sleep(GATHER_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Append what was published so far."""
        while self._pending:
            events = tuple(self._pending)
            self._pending.clear()
            stored = await self._append(events)
            self._recent.extend(stored)
            self._pulse.beat("")

    async def _append(self, events: Sequence[Event]) -> Sequence[Event]:
        while True:
            try:
                return await self._events.append(events)
            except StoreUnavailableError as error:
                _log.warning("events wait for the store", extra={"count": len(events), "cause": str(error)})
                await asyncio.sleep(_STORE_PAUSE)

    async def follow(self, after_cursor: int | None, wanted: Wanted) -> AsyncIterator[Event | Gap]:
        """Yield events with a larger cursor as they happen, without end; None begins with the next one."""
        with self._pulse.listen("") as news:
            oldest, newest = await self._events.bounds()
            cursor = newest if after_cursor is None else min(after_cursor, newest)
            while True:
                news.clear()
                oldest, newest = (await self._events.bounds()) if not self._covers(cursor) else (cursor + 1, cursor + 1)
                if cursor + 1 < oldest:
                    yield Gap(cursor + 1, oldest - 1)
                    cursor = oldest - 1
                page = await self._page(cursor)
                for event in page:
                    cursor = event.cursor
                    if wanted(event):
                        yield event
                if not page:
                    await news.wait()

    def _covers(self, cursor: int) -> bool:
        return bool(self._recent) and self._recent[0].cursor <= cursor + 1

    async def _page(self, cursor: int) -> Sequence[Event]:
        if not self._covers(cursor):
            return await self._events.read(cursor, _PAGE)
        behind = self._recent[-1].cursor - cursor
        return [self._recent[index] for index in range(len(self._recent) - behind, len(self._recent))] if behind > 0 else []

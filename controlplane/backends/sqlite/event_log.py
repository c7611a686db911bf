"""What happened lately, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from controlplane.backends.codec import decode, encode
from controlplane.backends.sqlite.database import Database
from controlplane.domain.events import Event
from controlplane.interfaces.event_log import KEPT_EVENTS


class SqliteEventLog:
    """An EventLog with a row for each event; the newest is never dropped, so cursors go on after a restart."""

    def __init__(self, database: Database, kept: int = KEPT_EVENTS) -> None:
        self._database = database
        self._kept = kept

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        """See EventLog."""
        if not events:
            return []
        bodies = [encode(event) for event in events]

        def change(db: sqlite3.Connection) -> int:
            newest = _bounds(db)[1]
            last = newest + len(bodies)
            db.executemany("INSERT INTO events VALUES (?, ?)", enumerate(bodies, newest + 1))
            db.execute("DELETE FROM events WHERE cursor <= ?", (last - self._kept,))
            return newest

        newest = await self._database.write(change)
        return [replace(event, cursor=newest + index) for index, event in enumerate(events, 1)]

    async def read(self, after_cursor: int, limit: int) -> Sequence[Event]:
        """See EventLog."""
        sql = "SELECT cursor, body FROM events WHERE cursor > ? ORDER BY cursor LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(sql, (after_cursor, limit)).fetchall())
        return [replace(decode(Event, body), cursor=cursor) for cursor, body in rows]

    async def bounds(self) -> tuple[int, int]:
        """See EventLog."""
        return await self._database.read(_bounds)


def _bounds(db: sqlite3.Connection) -> tuple[int, int]:
    # Two subqueries: SQLite answers MIN and MAX from the ends of the tree only when they stand alone.
    oldest, newest = db.execute("SELECT (SELECT MIN(cursor) FROM events), (SELECT MAX(cursor) FROM events)").fetchone()
    return oldest or 1, newest or 0

"""Where schedules live in SQLite: what is searched for in columns, the whole schedule as JSON beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from claude_conductor.errors import ScheduleNotFoundError
from claude_conductor.ids import ScheduleId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.sqlite.database import Database
from controlplane.domain.schedule import Schedule


class SqliteScheduleStore:
    """A ScheduleStore with a row for each schedule."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, schedule: Schedule) -> Schedule:
        """See ScheduleStore."""
        row = (schedule.tenant_id, schedule.name, schedule.id, schedule.version, schedule.next_time, encode(schedule))

        def change(db: sqlite3.Connection) -> str | None:
            sql = "SELECT body FROM schedules WHERE tenant = ? AND name = ?"
            earlier = db.execute(sql, (schedule.tenant_id, schedule.name)).fetchone()
            if earlier is not None:
                return str(earlier[0])
            db.execute("INSERT INTO schedules (tenant, name, id, version, next_time, body) VALUES (?, ?, ?, ?, ?, ?)", row)
            return None

        earlier = await self._database.write(change)
        return schedule if earlier is None else decode(Schedule, earlier)

    async def get(self, tenant_id: TenantId, name: str) -> Schedule:
        """See ScheduleStore."""
        sql = "SELECT body FROM schedules WHERE tenant = ? AND (name = ? OR id = ?)"
        row = await self._database.read(lambda db: db.execute(sql, (tenant_id, name, name)).fetchone())
        if row is None:
            raise ScheduleNotFoundError(schedule=name)
        return decode(Schedule, row[0])

    async def save(self, schedule: Schedule) -> bool:
        """See ScheduleStore."""
        sql = "UPDATE schedules SET version = ?, next_time = ?, body = ? WHERE id = ? AND version = ?"
        row = (schedule.version, schedule.next_time, encode(schedule), schedule.id, schedule.version - 1)
        return await self._database.write(lambda db: db.execute(sql, row).rowcount == 1)

    async def remove(self, tenant_id: TenantId, schedule_id: ScheduleId) -> bool:
        """See ScheduleStore."""
        sql = "DELETE FROM schedules WHERE tenant = ? AND id = ?"
        return await self._database.write(lambda db: db.execute(sql, (tenant_id, schedule_id)).rowcount == 1)

    async def due(self, now: float, limit: int) -> Sequence[Schedule]:
        """See ScheduleStore."""
        sql = "SELECT body FROM schedules WHERE next_time <= ? ORDER BY next_time, id LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(sql, (now, limit)).fetchall())
        return [decode(Schedule, body) for (body,) in rows]

    async def next_time(self) -> float | None:
        """See ScheduleStore."""
        (found,) = await self._database.read(lambda db: db.execute("SELECT MIN(next_time) FROM schedules").fetchone())
        return None if found is None else float(found)

    async def list(self, tenant_id: TenantId, after: str, limit: int) -> Sequence[Schedule]:
        """See ScheduleStore."""
        sql = "SELECT body FROM schedules WHERE tenant = ? AND name > ? ORDER BY name LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(sql, (tenant_id, after, limit)).fetchall())
        return [decode(Schedule, body) for (body,) in rows]

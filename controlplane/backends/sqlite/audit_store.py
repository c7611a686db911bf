"""The audit chain in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from claude_conductor.audit_chain import Head, Record
from controlplane.backends.codec import decode, encode
from controlplane.backends.sqlite.database import Database


class SqliteAuditStore:
    """An AuditStore with a row for each record and each head."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, records: Sequence[Record]) -> bool:
        """See AuditStore."""
        rows = [(each.number, encode(each)) for each in records]

        def change(db: sqlite3.Connection) -> bool:
            (newest,) = db.execute("SELECT MAX(number) FROM audit").fetchone()
            if rows and rows[0][0] != (newest or 0) + 1:
                return False
            db.executemany("INSERT INTO audit VALUES (?, ?)", rows)
            return True

        return await self._database.write(change)

    async def state(self, head: Head) -> None:
        """See AuditStore."""
        row = (head.number, encode(head))
        await self._database.write(lambda db: db.execute("INSERT OR REPLACE INTO audit_heads VALUES (?, ?)", row).rowcount)

    async def read(self, after: int, limit: int) -> Sequence[Record]:
        """See AuditStore."""
        sql = "SELECT body FROM audit WHERE number > ? ORDER BY number LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(sql, (after, limit)).fetchall())
        return [decode(Record, body) for (body,) in rows]

    async def newest(self) -> Record | None:
        """See AuditStore."""
        sql = "SELECT body FROM audit ORDER BY number DESC LIMIT 1"
        row = await self._database.read(lambda db: db.execute(sql).fetchone())
        return decode(Record, row[0]) if row else None

    async def heads(self) -> Sequence[Head]:
        """See AuditStore."""
        rows = await self._database.read(lambda db: db.execute("SELECT body FROM audit_heads ORDER BY number").fetchall())
        return [decode(Head, body) for (body,) in rows]

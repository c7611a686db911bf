"""Where messages for many wait in SQLite for their copies: one row each, with who gets it and how far the copies are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from controlplane.backends.sqlite.database import Database
from controlplane.backends.sqlite.forgetting import forget_heavy
from controlplane.backends.sqlite.frames import Accepting, split_ids
from controlplane.domain.message import Accepted, Copy, IncomingFrame, Outcome, Publication
from controlplane.interfaces.mailbox_store import MailboxLimits, tenant_of

_COLUMNS = "number, mailbox, sender, type, ids, expire_ms, frame, accept_ms, recipients, made"


class SqlitePublications:
    """The part of a MailboxStore that copies."""

    def __init__(self, database: Database, limits: MailboxLimits) -> None:
        self._database = database
        self._limits = limits

    async def publish(self, frame: IncomingFrame) -> tuple[Outcome, int]:
        """See PublicationStore."""
        names = frame.recipients or ()

        def change(db: sqlite3.Connection) -> tuple[Outcome, int]:
            (newest,) = db.execute("SELECT MAX(number) FROM publications").fetchone()
            number = (newest or 0) + 1
            repeated = Accepting(db, self._limits).remember_publication(frame, number)
            if repeated is not None:
                return repeated, 0
            db.execute(
                "INSERT INTO publications VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    *(number, tenant_of(frame.mailbox), frame.mailbox, frame.sender, frame.type, frame.message_ids),
                    *(frame.accept_time_ms, frame.expire_time_ms, frame.frame if names else b"", json.dumps(names), len(names)),
                ),
            )
            return Accepted(0, len(names)), number

        return await self._database.write(change)

    async def copy(self, number: int, most: int, now_ms: int) -> tuple[Sequence[Copy], int]:
        """See PublicationStore."""

        def change(db: sqlite3.Connection) -> tuple[Sequence[Copy], int]:
            row = db.execute(f"SELECT {_COLUMNS} FROM publications WHERE number = ?", (number,)).fetchone()  # noqa: S608
            publication = _publication(row)
            frame, made = publication.frame, publication.made
            names = (frame.recipients or ())[made : made + most]
            accepting = Accepting(db, self._limits)
            copies = [accepting.copy(frame._replace(mailbox=name, recipients=None), now_ms) for name in names]
            accepting.finish()
            if any(each.dead for each in copies):
                forget_heavy(db, self._limits.kept_bytes)
            left = publication.left - len(names)
            db.execute("UPDATE publications SET made = made + ? WHERE number = ?", (len(names), number))
            if not left:
                db.execute("UPDATE publications SET frame = x'' WHERE number = ?", (number,))
            return copies, left

        return await self._database.write(change)

    async def unfinished(self) -> Sequence[Publication]:
        """See PublicationStore."""
        sql = f"SELECT {_COLUMNS} FROM publications WHERE made < count ORDER BY number"  # noqa: S608 - constants
        return [_publication(row) for row in await self._database.read(lambda db: db.execute(sql).fetchall())]

    async def publication(self, tenant_id: str, message_id: bytes) -> Publication | None:
        """See PublicationStore."""
        sql = f"""SELECT {_COLUMNS} FROM publications WHERE +tenant = ?
                  AND number IN (SELECT -frame FROM seen WHERE id = ?) ORDER BY number DESC"""  # noqa: S608 - constants
        row = await self._database.read(lambda db: db.execute(sql, (tenant_id, message_id)).fetchone())
        return _publication(row) if row else None


def forget_publications(db: sqlite3.Connection, horizon_ms: int, most: int) -> None:
    """Forget finished publications that expired at or before the horizon, and their ids."""
    sql = """SELECT number, ids FROM publications WHERE made = count AND MAX(accept_ms, expire_ms) <= ?
             ORDER BY MAX(accept_ms, expire_ms) LIMIT ?"""
    for number, ids in db.execute(sql, (horizon_ms, most)).fetchall():
        db.executemany("DELETE FROM seen WHERE id = ? AND frame = ?", [(key, -number) for key in split_ids(ids)])
        db.execute("DELETE FROM publications WHERE number = ?", (number,))


def _publication(row: Sequence[Any]) -> Publication:
    number, mailbox, sender, kind, ids, expire_ms, frame, accept_ms, recipients, made = row
    names = tuple(json.loads(recipients))
    return Publication(number, IncomingFrame(mailbox, sender, kind, ids, expire_ms, frame, accept_ms, names), made)

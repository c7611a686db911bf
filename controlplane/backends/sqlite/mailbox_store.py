"""Where messages wait in SQLite: one row a frame, one row of the dedupe table a message."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from controlplane.backends.spans import ended, given_up, letters_of, received
from controlplane.backends.sqlite.forgetting import FORGOTTEN_AT_ONCE, forget_early, forget_heavy, forget_old, forget_surplus
from controlplane.backends.sqlite.frames import FRAME_COLUMNS, FRAME_TABLES, Accepting, FrameRow, move, open_frames
from controlplane.backends.sqlite.letters import SqliteLetters
from controlplane.backends.sqlite.publications import SqlitePublications, forget_publications
from controlplane.backends.told import records, stored
from controlplane.domain.message import IncomingFrame, Outcome, Receipt, Record, State, StoredFrame
from controlplane.interfaces.mailbox_store import KEPT_MS

LAST = (1 << 62) - 1
"""A position after every other."""


class SqliteMailboxStore(SqlitePublications, SqliteLetters):
    """A LetterStore whose unit is the frame."""

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        """See MailboxStore."""

        def change(db: sqlite3.Connection) -> Sequence[Outcome]:
            accepting = Accepting(db, self._limits)
            outcomes = [accepting.accept(frame) for frame in frames]
            accepting.finish()
            return outcomes

        return await self._database.write(change)

    async def read(self, mailbox: str, after_position: int, max_bytes: int) -> Sequence[StoredFrame]:
        """See MailboxStore."""

        def query(db: sqlite3.Connection) -> Sequence[StoredFrame]:
            sql = f"""SELECT {FRAME_COLUMNS} FROM {FRAME_TABLES} WHERE frames.open > 0 AND frames.last > ?
                      AND frames.mailbox = (SELECT number FROM mailboxes WHERE name = ?) ORDER BY frames.last"""  # noqa: S608
            found: list[StoredFrame] = []
            left = max_bytes
            for row in db.execute(sql, (after_position, mailbox)):
                frame = FrameRow(*row)
                if not any(frame.first + span.last > after_position for span in frame.spans if not span.state.final):
                    continue
                left -= frame.size
                if found and left < 0:
                    break
                found.append(_stored(db, frame))
            return found

        return await self._database.read(query)

    async def give_up(self, mailbox: str, from_position: int, to_position: int, last_error: str, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        update = given_up(self._limits.attempts, last_error, now_ms)

        def change(db: sqlite3.Connection) -> Sequence[Record]:
            frames = open_frames(db, mailbox, from_position, to_position)
            return [record for frame in frames for record in move(db, frame, from_position, to_position, update)]

        return await self._database.write(change)

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""

        def change(db: sqlite3.Connection) -> Sequence[Record]:
            ended: list[Record] = []
            for receipt in receipts:
                for frame in open_frames(db, mailbox, receipt.from_position, receipt.to_position):
                    ended += move(db, frame, receipt.from_position, receipt.to_position, received(receipt, now_ms))
            return ended

        return await self._database.write(change)

    async def close(self, mailbox: str, reason: str, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        update = ended(State.BOUNCED, reason, now_ms)

        def change(db: sqlite3.Connection) -> Sequence[Record]:
            return [record for frame in open_frames(db, mailbox, 0, LAST) for record in move(db, frame, 0, LAST, update)]

        return await self._database.write(change)

    async def expire(self, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        update = ended(State.EXPIRED, "its time to live was over", now_ms)

        def change(db: sqlite3.Connection) -> Sequence[Record]:
            sql = f"""SELECT {FRAME_COLUMNS} FROM {FRAME_TABLES}
                      WHERE frames.open > 0 AND frames.expire_ms > 0 AND frames.expire_ms <= ?"""  # noqa: S608 - constants
            over = [FrameRow(*row) for row in db.execute(sql, (now_ms,)).fetchall()]
            expired = [record for frame in over for record in move(db, frame, 0, LAST, update)]
            forget_heavy(db, self._limits.kept_bytes)
            forget_surplus(db, self._limits.kept)
            if self._limits.kept_ms < KEPT_MS:
                forget_early(db, now_ms - self._limits.kept_ms)
            forget_old(db, now_ms - max(KEPT_MS, self._limits.kept_ms))
            forget_publications(db, now_ms - max(KEPT_MS, self._limits.kept_ms), FORGOTTEN_AT_ONCE)
            return expired

        return await self._database.write(change)

    async def end(self, mailbox: str) -> int:
        """See MailboxStore."""

        def query(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT next_position FROM mailboxes WHERE name = ?", (mailbox,)).fetchone()
            return int(row[0]) - 1 if row else 0

        return await self._database.read(query)

    async def advance(self, mailbox: str, position: int) -> None:
        """See MailboxStore."""
        sql = """INSERT INTO mailboxes (name, next_position, messages, bytes) VALUES (?, ?, 0, 0)
                 ON CONFLICT (name) DO UPDATE SET next_position = MAX(next_position, excluded.next_position)"""

        def change(db: sqlite3.Connection) -> None:
            db.execute(sql, (mailbox, position + 1))

        await self._database.write(change)

    async def find(self, tenant_id: str, message_id: bytes) -> Sequence[tuple[Record, bytes]]:
        """See MailboxStore."""

        def query(db: sqlite3.Connection) -> Sequence[tuple[Record, bytes]]:
            sql = f"""SELECT {FRAME_COLUMNS} FROM {FRAME_TABLES} WHERE +frames.tenant = ? AND +frames.kept = 1
                      AND frames.number IN (SELECT frame FROM seen WHERE id = ? UNION ALL SELECT frame FROM copied WHERE id = ?)
                      ORDER BY frames.number"""  # noqa: S608 - constants
            found: list[tuple[Record, bytes]] = []
            for row in db.execute(sql, (tenant_id, message_id, message_id)):
                frame = FrameRow(*row)
                ids, content = db.execute("SELECT ids, frame FROM contents WHERE number = ?", (frame.number,)).fetchone()
                found += [(record, content) for record in records(frame, frame.spans, ids) if record.message_id == message_id]
            return found

        return await self._database.read(query)

    async def list(self, tenant_id: str, mailbox: str, states: frozenset[State], after: bytes, limit: int) -> Sequence[Record]:
        """See MailboxStore."""
        sql = f"""SELECT frames.newest_id, {FRAME_COLUMNS} FROM {FRAME_TABLES}
                  WHERE frames.kept = 1 AND frames.tenant = ?"""  # noqa: S608 - constants
        arguments: list[object] = [tenant_id]
        if mailbox:
            sql += " AND mailboxes.name = ?"
            arguments.append(mailbox)
        if after:
            sql += " AND frames.oldest_id <= ?"
            arguments.append(after[:16])
        if states and not any(state.final for state in states):
            sql += " AND frames.open > 0"
        elif states and all(state.final for state in states):
            sql += f" AND ({' OR '.join(['instr(frames.spans, ?) > 0'] * len(states))})"
            arguments.extend(letters_of(states))

        def query(db: sqlite3.Connection) -> Sequence[Record]:
            found: list[Record] = []
            for newest_id, *row in db.execute(sql + " ORDER BY frames.newest_id DESC", arguments):
                # What follows has only smaller ids, so it is enough when the page is full of larger ones.
                if sum(record.message_id > newest_id for record in found) >= limit:
                    break
                frame = FrameRow(*row)
                spans = [span for span in frame.spans if not states or span.state in states]
                if spans:
                    (ids,) = db.execute("SELECT ids FROM contents WHERE number = ?", (frame.number,)).fetchone()
                    found += [record for record in records(frame, spans, ids) if not after or record.key < after]
                    found = sorted(found, key=lambda record: record.key, reverse=True)[:limit]
            return found

        return await self._database.read(query)


def _stored(db: sqlite3.Connection, frame: FrameRow) -> StoredFrame:
    ids, content = db.execute("SELECT ids, frame FROM contents WHERE number = ?", (frame.number,)).fetchone()
    return stored(frame, frame.spans, ids, content)

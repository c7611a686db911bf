"""How are dead letters sent again or removed, and senders of bounced messages remembered, in SQLite?"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from controlplane.backends.spans import Span, retired, to_text
from controlplane.backends.sqlite.database import Database
from controlplane.backends.sqlite.frames import FRAME_COLUMNS, FRAME_TABLES, Accepting, FrameRow
from controlplane.backends.told import records
from controlplane.domain.message import Accepted, Full, IncomingFrame, Letter, NotDead, Record, Redrive, State
from controlplane.interfaces.mailbox_store import MailboxLimits


class SqliteLetters:
    """The half of the mailboxes that LetterStore adds."""

    def __init__(self, database: Database, limits: MailboxLimits) -> None:
        self._database = database
        self._limits = limits

    async def redrive(self, letters: Sequence[Redrive], now_ms: int) -> Sequence[Accepted | Full | NotDead]:
        """See LetterStore."""

        def change(db: sqlite3.Connection) -> Sequence[Accepted | Full | NotDead]:
            accepting = Accepting(db, self._limits)
            outcomes = [_redrive(db, accepting, again, now_ms) for again in letters]
            accepting.finish()
            return outcomes

        return await self._database.write(change)

    async def purge(self, letters: Sequence[Letter], now_ms: int) -> Sequence[Record]:
        """See LetterStore."""
        del now_ms

        def change(db: sqlite3.Connection) -> Sequence[Record]:
            removed: list[Record] = []
            for letter in letters:
                found = _dead(db, letter)
                if found is not None:
                    frame, span = found
                    removed.extend(_records(db, frame, span))
                    _retire(db, frame, span)
            return removed

        return await self._database.write(change)

    async def owed(self, limit: int) -> Sequence[Record]:
        """See LetterStore."""

        def query(db: sqlite3.Connection) -> Sequence[Record]:
            sql = f"""SELECT owed.position, {FRAME_COLUMNS} FROM owed JOIN {FRAME_TABLES}
                      WHERE frames.number = owed.frame ORDER BY owed.time_ms, mailboxes.name, owed.position LIMIT ?"""  # noqa: S608
            found: list[Record] = []
            for position, *row in db.execute(sql, (limit,)).fetchall():
                frame = FrameRow(*row)
                found.extend(_records(db, frame, _span_of(frame, position)))
            return found

        return await self._database.read(query)

    async def told(self, records: Sequence[Record]) -> None:
        """See LetterStore."""
        rows = [(record.position, record.mailbox) for record in records]

        def change(db: sqlite3.Connection) -> None:
            sql = "DELETE FROM owed WHERE position = ? AND mailbox = (SELECT number FROM mailboxes WHERE name = ?)"
            db.executemany(sql, rows)

        await self._database.write(change)


def _redrive(db: sqlite3.Connection, accepting: Accepting, again: Redrive, now_ms: int) -> Accepted | Full | NotDead:
    found = _dead(db, again.letter)
    if found is None:
        return NotDead()
    frame, span = found
    incoming = IncomingFrame(
        mailbox=frame.mailbox_name,
        sender=frame.sender,
        type=frame.type,
        message_ids=again.letter.message_id,
        expire_time_ms=again.expire_time_ms,
        frame=again.frame,
        accept_time_ms=frame.accept_ms,
    )
    outcome = accepting.accept_again(
        incoming, frame.number, Span(0, 0, (*span.hops, (State.ACCEPTED, now_ms)), reason=again.reason)
    )
    if isinstance(outcome, Accepted):
        _retire(db, frame, span)
    return outcome


def _dead(db: sqlite3.Connection, letter: Letter) -> tuple[FrameRow, Span] | None:
    """Return the frame of a dead letter, and the span of this letter alone."""
    sql = f"""SELECT {FRAME_COLUMNS} FROM {FRAME_TABLES} WHERE +frames.kept = 1 AND mailboxes.name = ?
              AND frames.number IN (SELECT frame FROM seen WHERE id = ? UNION SELECT frame FROM copied WHERE id = ?)"""  # noqa: S608
    for row in db.execute(sql, (letter.mailbox, letter.message_id, letter.message_id)).fetchall():
        frame = FrameRow(*row)
        if frame.first <= letter.position <= frame.last:
            span = _span_of(frame, letter.position)
            if span.state is State.DEAD and [record.message_id for record in _records(db, frame, span)] == [letter.message_id]:
                return frame, span
    return None


def _records(db: sqlite3.Connection, frame: FrameRow, span: Span) -> list[Record]:
    (ids,) = db.execute("SELECT ids FROM contents WHERE number = ?", (frame.number,)).fetchone()
    return list(records(frame, [span], ids))


def _span_of(frame: FrameRow, position: int) -> Span:
    """Return the span of one message."""
    index = position - frame.first
    (span,) = (span for span in frame.spans if span.first <= index <= span.last)
    return replace(span, first=index, last=index)


def _retire(db: sqlite3.Connection, frame: FrameRow, span: Span) -> None:
    """Show this message no more; what a frame of such messages said is removed."""
    spans = retired(frame.spans, span.first)
    db.execute("UPDATE frames SET spans = ? WHERE number = ?", (to_text(spans), frame.number))
    if all(each.gone for each in spans):
        db.execute("UPDATE frames SET kept = 0 WHERE number = ?", (frame.number,))
    if all(each.gone or each.state is State.ACKED for each in spans):
        db.execute("UPDATE contents SET frame = x'' WHERE number = ?", (frame.number,))
        db.execute("UPDATE frames SET remains = 0 WHERE number = ?", (frame.number,))

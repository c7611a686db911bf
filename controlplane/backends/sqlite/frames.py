"""How frames are accepted and their messages moved on, inside one transaction of the writing thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.backends.spans import Span, Update, change, fresh, from_text, open_count, to_text
from controlplane.backends.told import records
from controlplane.domain.message import (
    Accepted,
    Behind,
    Copy,
    Duplicate,
    Full,
    IncomingFrame,
    Outcome,
    PartlyDuplicate,
    Record,
    State,
)
from controlplane.domain.routing import CONDUCTOR
from controlplane.interfaces.mailbox_store import MailboxLimits, tenant_of
from controlplane.interfaces.publication_store import FULL

FRAME_COLUMNS = (
    "frames.number, frames.mailbox, mailboxes.name, senders.name, frames.type, frames.first, frames.last, frames.size, "
    "frames.accept_ms, frames.expire_ms, frames.spans"
)
FRAME_TABLES = "frames JOIN mailboxes ON mailboxes.number = frames.mailbox JOIN senders ON senders.number = frames.sender"


_LOOKED_UP = 500
"""Ids asked for in one statement; SQLite takes 999 parameters at least (https://www.sqlite.org/limits.html)."""


@dataclass(frozen=True, slots=True)
class FrameRow:
    """A frame as its row tells, in the order of FRAME_COLUMNS."""

    number: int
    mailbox: int
    mailbox_name: str
    sender: str
    type: str
    first: int
    last: int
    size: int
    accept_ms: int
    expire_ms: int
    spans_text: str | None

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where its messages stand."""
        return from_text(self.spans_text) if self.spans_text else fresh(self.last - self.first + 1, self.accept_ms)


@dataclass(slots=True)
class _Mailbox:
    number: int
    next_position: int
    messages: int
    bytes: int


class Accepting:
    """One call of `append`: reads each mailbox and sender once, writes each mailbox once."""

    def __init__(self, db: sqlite3.Connection, limits: MailboxLimits) -> None:
        self._db = db
        self._limits = limits
        self._mailboxes: dict[str, _Mailbox] = {}
        self._senders: dict[tuple[str, str], int] = {}
        self._held: set[tuple[int, int]] = set()
        """(mailbox, sender) of frames that wait for what is left of one before them."""
        (newest,) = db.execute("SELECT MAX(number) FROM frames").fetchone()
        self._next_number: int = (newest or 0) + 1

    def accept(self, frame: IncomingFrame) -> Outcome:
        """Store the frame if it may be stored."""
        ids = split_ids(frame.message_ids)
        mailbox = self._mailbox(frame.mailbox)
        sender = self._sender(tenant_of(frame.mailbox), frame.sender)
        if (mailbox.number, sender) in self._held:
            return Behind()
        room = self._room(frame, mailbox)
        if not (ids and room and self._remember(ids, sender, self._next_number)):
            repeated = self._repeated(ids, sender)
            if isinstance(repeated, PartlyDuplicate):
                self._held.add((mailbox.number, sender))
            return repeated or Full()
        first = mailbox.next_position
        self._store(frame, ids, mailbox, sender)
        mailbox.next_position += len(ids)
        mailbox.messages += len(ids)
        mailbox.bytes += len(frame.frame)
        return Accepted(first)

    def accept_again(self, frame: IncomingFrame, before: int, history: Span) -> Accepted | Full:
        """Store a frame of one message that was in frame number `before` of this mailbox, with its history, if there is room."""
        mailbox = self._mailbox(frame.mailbox)
        if not self._room(frame, mailbox):
            return Full()
        first, number = mailbox.next_position, self._next_number
        self._store(frame, [frame.message_ids], mailbox, self._sender(tenant_of(frame.mailbox), frame.sender))
        mailbox.next_position += 1
        mailbox.messages += 1
        mailbox.bytes += len(frame.frame)
        self._db.execute("UPDATE frames SET spans = ? WHERE number = ?", (to_text([history]), number))
        for table in ("seen", "copied"):
            sql = f"UPDATE {table} SET frame = ? WHERE id = ? AND frame = ?"  # noqa: S608 - constants
            self._db.execute(sql, (number, frame.message_ids, before))
        return Accepted(first)

    def remember_publication(self, frame: IncomingFrame, number: int) -> Outcome | None:
        """Note the ids of a publication as seen; if not all are new, note none and return what it is."""
        ids, sender = split_ids(frame.message_ids), self._sender(tenant_of(frame.mailbox), frame.sender)
        return None if ids and self._remember(ids, sender, -number) else self._repeated(ids, sender)

    def copy(self, frame: IncomingFrame, now_ms: int) -> Copy:
        """Store a publication's copy in its mailbox; as a dead letter if that has no room."""
        ids, mailbox = split_ids(frame.message_ids), self._mailbox(frame.mailbox)
        number, first = self._next_number, mailbox.next_position
        self._store(frame, ids, mailbox, self._sender(tenant_of(frame.mailbox), frame.sender))
        self._db.executemany("INSERT INTO copied VALUES (?, ?)", [(key, number) for key in dict.fromkeys(ids)])
        mailbox.next_position += len(ids)
        if self._room(frame, mailbox):
            mailbox.messages += len(ids)
            mailbox.bytes += len(frame.frame)
            return Copy(frame.mailbox, first)
        spans = (fresh(len(ids), frame.accept_time_ms)[0].moved(State.DEAD, FULL, now_ms),)
        sql = "UPDATE frames SET spans = ?, open = 0, end_ms = ?, remains = size WHERE number = ?"
        self._db.execute(sql, (to_text(spans), now_ms, number))
        sql = f"SELECT {FRAME_COLUMNS} FROM {FRAME_TABLES} WHERE frames.number = ?"  # noqa: S608 - constants
        row = FrameRow(*self._db.execute(sql, (number,)).fetchone())
        return Copy(frame.mailbox, first, tuple(records(row, spans, frame.message_ids)))

    def _room(self, frame: IncomingFrame, mailbox: _Mailbox) -> bool:
        limits = self._limits
        return mailbox.messages + frame.messages <= limits.messages and mailbox.bytes + len(frame.frame) <= limits.bytes

    def finish(self) -> None:
        """Write what the mailboxes have become."""
        self._db.executemany(
            "UPDATE mailboxes SET next_position = ?, messages = ?, bytes = ? WHERE number = ?",
            [(mailbox.next_position, mailbox.messages, mailbox.bytes, mailbox.number) for mailbox in self._mailboxes.values()],
        )

    def _remember(self, ids: Sequence[bytes], sender: int, number: int) -> bool:
        """Note the ids as seen and return whether all were new; if not, note none."""
        rows = [(key, sender, number) for key in ids]
        if self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", rows).rowcount == len(ids):
            return True
        self._db.executemany("DELETE FROM seen WHERE id = ? AND sender = ? AND frame = ?", rows)
        return False

    def _repeated(self, ids: Sequence[bytes], sender: int) -> Outcome | None:
        """Return what a frame is that was accepted before; None if it is new."""
        stored: dict[bytes, int] = {}
        for start in range(0, len(ids), _LOOKED_UP):
            some = ids[start : start + _LOOKED_UP]
            sql = f"SELECT id, frame FROM seen WHERE sender = ? AND id IN ({', '.join('?' * len(some))})"  # noqa: S608 - question marks
            stored.update(self._db.execute(sql, (sender, *some)))
        before: dict[bytes, int] = {}
        repeated: set[int] = set()
        for index, key in enumerate(ids):
            if key in before or key in stored:
                repeated.add(index)
            before.setdefault(key, stored.get(key, 0))
        if len(repeated) < len(ids):
            return PartlyDuplicate(frozenset(repeated)) if repeated else None
        number = before[ids[0]] if ids else 0
        if number >= 0:
            return Duplicate()
        (count,) = self._db.execute("SELECT count FROM publications WHERE number = ?", (-number,)).fetchone()
        return Duplicate(count)

    def _store(self, frame: IncomingFrame, ids: Sequence[bytes], mailbox: _Mailbox, sender: int) -> None:
        number = self._next_number
        self._next_number += 1
        self._db.execute(
            """INSERT INTO frames (number, mailbox, tenant, sender, type, first, last, open, size, accept_ms, expire_ms,
                                   oldest_id, newest_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                number,
                mailbox.number,
                tenant_of(frame.mailbox),
                sender,
                frame.type,
                mailbox.next_position,
                mailbox.next_position + len(ids) - 1,
                len(ids),
                len(frame.frame),
                frame.accept_time_ms,
                frame.expire_time_ms,
                min(ids),
                max(ids),
            ),
        )
        self._db.execute("INSERT INTO contents VALUES (?, ?, ?)", (number, frame.message_ids, frame.frame))

    def _mailbox(self, name: str) -> _Mailbox:
        known = self._mailboxes.get(name)
        if known is not None:
            return known
        sql = "SELECT number, next_position, messages, bytes FROM mailboxes WHERE name = ?"
        row = self._db.execute(sql, (name,)).fetchone()
        if row is None:
            self._db.execute("INSERT INTO mailboxes (name, next_position, messages, bytes) VALUES (?, 1, 0, 0)", (name,))
            row = self._db.execute(sql, (name,)).fetchone()
        self._mailboxes[name] = _Mailbox(*row)
        return self._mailboxes[name]

    def _sender(self, tenant: str, name: str) -> int:
        known = self._senders.get((tenant, name))
        if known is not None:
            return known
        sql = "SELECT number FROM senders WHERE tenant = ? AND name = ?"
        row = self._db.execute(sql, (tenant, name)).fetchone()
        if row is None:
            self._db.execute("INSERT INTO senders (tenant, name) VALUES (?, ?)", (tenant, name))
            row = self._db.execute(sql, (tenant, name)).fetchone()
        self._senders[tenant, name] = int(row[0])
        return self._senders[tenant, name]


def split_ids(packed: bytes) -> list[bytes]:
    """Return the ids of a frame one by one."""
    return [packed[start : start + 16] for start in range(0, len(packed), 16)]


def open_frames(db: sqlite3.Connection, mailbox: str, first: int, last: int) -> list[FrameRow]:
    """Return the frames of a mailbox with a message that is not final, and one between two positions, in order."""
    sql = f"""SELECT {FRAME_COLUMNS} FROM {FRAME_TABLES} WHERE frames.open > 0 AND frames.last >= ?
              AND frames.mailbox = (SELECT number FROM mailboxes WHERE name = ?) ORDER BY frames.last"""  # noqa: S608 - constants
    found: list[FrameRow] = []
    for row in db.execute(sql, (first, mailbox)):
        frame = FrameRow(*row)
        if frame.first > last:
            break
        found.append(frame)
    return found


def move(db: sqlite3.Connection, frame: FrameRow, first: int, last: int, update: Update) -> list[Record]:
    """Apply the update to the messages between two positions; return the records of those that became final."""
    before = frame.spans
    spans, changed = change(before, first - frame.first, last - frame.first, update)
    if not changed:
        return []
    left = open_count(spans)
    end_ms = 0 if left else max(span.hops[-1][1] for span in spans)
    db.execute("UPDATE frames SET spans = ?, open = ?, end_ms = ? WHERE number = ?", (to_text(spans), left, end_ms, frame.number))
    closed = open_count(before) - left
    if not closed:
        return []
    freed = 0 if left else frame.size
    db.execute(
        "UPDATE mailboxes SET messages = messages - ?, bytes = bytes - ? WHERE number = ?",
        (closed, freed, frame.mailbox),
    )
    if not left and all(span.state is State.ACKED for span in spans):
        db.execute("UPDATE contents SET frame = x'' WHERE number = ?", (frame.number,))
    elif not left:
        db.execute("UPDATE frames SET remains = size WHERE number = ?", (frame.number,))
    final = [span for span in changed if span.state.final and span.state is not State.ACKED]
    if not final:
        return []
    (ids,) = db.execute("SELECT ids FROM contents WHERE number = ?", (frame.number,)).fetchone()
    if frame.sender != CONDUCTOR:
        bounced = [span for span in final if span.state is State.BOUNCED]
        places = [(frame.first + index, span) for span in bounced for index in range(span.first, span.last + 1)]
        rows = [(frame.mailbox, position, frame.number, span.hops[-1][1]) for position, span in places]
        db.executemany("INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?)", rows)
    return list(records(frame, final, ids))

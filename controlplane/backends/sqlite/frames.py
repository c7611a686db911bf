"""How frames are accepted and their messages moved on, inside one transaction of the writing thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from controlplane.backends.spans import Span, Update, change, fresh, from_text, open_count, to_text
from controlplane.domain.message import Accepted, Duplicate, Full, IncomingFrame, Outcome, PartlyDuplicate, Record, State
from controlplane.interfaces.mailbox_store import MailboxLimits, tenant_of

FRAME_COLUMNS = (
    "frames.number, frames.mailbox, mailboxes.name, senders.name, frames.type, frames.first, frames.last, frames.size, "
    "frames.accept_ms, frames.expire_ms, frames.spans"
)
FRAME_TABLES = "frames JOIN mailboxes ON mailboxes.number = frames.mailbox JOIN senders ON senders.number = frames.sender"


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

    def records(self, spans: Iterable[Span], ids: bytes) -> Iterator[Record]:
        """Yield a record for each message of these spans; `ids` are those of the whole frame."""
        for span in spans:
            for index in range(span.first, span.last + 1):
                yield Record(
                    message_id=ids[16 * index : 16 * index + 16],
                    sender=self.sender,
                    mailbox=self.mailbox_name,
                    type=self.type,
                    state=span.state,
                    reason=span.reason,
                    attempts=span.attempts,
                    accept_time_ms=self.accept_ms,
                    state_time_ms=span.hops[-1][1],
                    expire_time_ms=self.expire_ms,
                    position=self.first + index,
                    hops=span.hops,
                )


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
        (newest,) = db.execute("SELECT MAX(number) FROM frames").fetchone()
        self._next_number: int = (newest or 0) + 1

    def accept(self, frame: IncomingFrame) -> Outcome:
        """Store the frame if it may be stored."""
        ids = [frame.message_ids[start : start + 16] for start in range(0, len(frame.message_ids), 16)]
        mailbox = self._mailbox(frame.mailbox)
        sender = self._sender(tenant_of(frame.mailbox), frame.sender)
        room = mailbox.messages + len(ids) <= self._limits.messages and mailbox.bytes + len(frame.frame) <= self._limits.bytes
        if not (ids and room and self._remember(ids, sender)):
            repeated = self._repeated(ids, sender)
            if len(repeated) == len(ids):
                return Duplicate()
            return PartlyDuplicate(repeated) if repeated else Full()
        first = mailbox.next_position
        self._store(frame, ids, mailbox, sender)
        mailbox.next_position += len(ids)
        mailbox.messages += len(ids)
        mailbox.bytes += len(frame.frame)
        return Accepted(first)

    def finish(self) -> None:
        """Write what the mailboxes have become."""
        self._db.executemany(
            "UPDATE mailboxes SET next_position = ?, messages = ?, bytes = ? WHERE number = ?",
            [(mailbox.next_position, mailbox.messages, mailbox.bytes, mailbox.number) for mailbox in self._mailboxes.values()],
        )

    def _remember(self, ids: Sequence[bytes], sender: int) -> bool:
        """Note the ids as seen and return whether all were new; if not, note none."""
        number = self._next_number
        rows = [(key, sender, number) for key in ids]
        if self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", rows).rowcount == len(ids):
            return True
        self._db.executemany("DELETE FROM seen WHERE id = ? AND sender = ? AND frame = ?", rows)
        return False

    def _repeated(self, ids: Sequence[bytes], sender: int) -> frozenset[int]:
        before: set[bytes] = set()
        repeated: set[int] = set()
        for index, key in enumerate(ids):
            stored = self._db.execute("SELECT 1 FROM seen WHERE id = ? AND sender = ?", (key, sender)).fetchone()
            if key in before or stored:
                repeated.add(index)
            before.add(key)
        return frozenset(repeated)

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
    final = [span for span in changed if span.state.final and span.state is not State.ACKED]
    if not final:
        return []
    (ids,) = db.execute("SELECT ids FROM contents WHERE number = ?", (frame.number,)).fetchone()
    return list(frame.records(final, ids))

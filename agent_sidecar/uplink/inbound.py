"""What the journal keeps of messages for the agent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent_sidecar.uplink.journal import Change
from claude_conductor.v1 import message_pb2, message_service_pb2

NEVER: Final = (1 << 63) - 1
"""The latest time there is; milliseconds since the epoch."""
_INSERT: Final = """INSERT OR IGNORE INTO inbound (mailbox, position, attempt, seen, sender, envelope, addressed, expire_ms)
                    VALUES (?, ?, ?, 0, ?, ?, ?, ?)"""


@dataclass(slots=True)
class Item:
    """A message that waits for the agent, or for its acknowledgement."""

    position: int
    """0: it is ephemeral, journalled nowhere."""
    attempt: int
    sender: str
    envelope: bytes
    seen: bool = False
    addressed: str = ""
    """What it was sent to, if that is not this mailbox."""
    expire_ms: int = 0
    """Milliseconds since the epoch after which it is not shown any more; 0: the control plane knows."""
    answers: str = ""
    """Id of the message it answers."""
    hops: int = 0
    """How often it was passed on; forgotten with the process."""

    def received(self, mailbox: str) -> message_service_pb2.ReceivedMessage:
        """Return it as the agent gets it."""
        return message_service_pb2.ReceivedMessage(
            sender=self.sender,
            position=self.position,
            attempt=self.attempt,
            envelope=message_pb2.Envelope.FromString(self.envelope),
            mailbox=mailbox,
            addressed_to=self.addressed,
        )


def items(frame: message_pb2.DeliveredFrame) -> Iterator[Item]:
    """Yield the messages of a delivered frame, in order."""
    header, sent = frame.header, frame.frame.header
    for index, envelope in enumerate(frame.frame.envelopes):
        yield Item(
            position=header.first_position + index if header.first_position else 0,
            attempt=max(1, header.attempt),
            sender=header.sender,
            envelope=envelope.SerializeToString(),
            addressed=sent.recipient if sent.recipient.startswith("topic/") or sent.recipient == "broadcast" else "",
            expire_ms=min(header.expire_time_ms or sent.expire_time_ms, NEVER),
            answers=envelope.correlation_id,
            hops=sent.hop_count,
        )


def load(connection: sqlite3.Connection) -> Iterator[tuple[str, Item]]:
    """Yield (mailbox, message) as an earlier life left them, in order; those of its tasks are forgotten: they are over."""
    for table in ("inbound", "cursors"):
        connection.execute(f"DELETE FROM {table} WHERE mailbox LIKE 'task/%'")  # noqa: S608 - our own names
    columns = "mailbox, position, attempt, sender, envelope, seen, addressed, expire_ms"
    rows = connection.execute(f"SELECT {columns} FROM inbound ORDER BY mailbox, position")  # noqa: S608 - our own names
    for mailbox, position, attempt, sender, envelope, seen, addressed, expire_ms in rows.fetchall():
        answers = message_pb2.Envelope.FromString(envelope).correlation_id
        yield mailbox, Item(position, attempt, sender, envelope, bool(seen), addressed, expire_ms, answers)


def cursors(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the highest position journalled, per mailbox."""
    return dict(connection.execute("SELECT mailbox, position FROM cursors").fetchall())


def insert(new: Sequence[tuple[str, Item]]) -> Change[None]:
    """Return the change that journals messages."""
    rows = [
        (mailbox, item.position, item.attempt, item.sender, item.envelope, item.addressed, item.expire_ms)
        for mailbox, item in new
    ]

    def change(connection: sqlite3.Connection) -> None:
        connection.executemany(_INSERT, rows)
        connection.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?)", [row[:2] for row in rows])

    return change


def mark_seen(places: Sequence[tuple[str, int]]) -> Change[None]:
    """Return the change that notes that the agent has them."""
    return _each("UPDATE inbound SET seen = 1 WHERE mailbox = ? AND position = ?", places)


def mark_unseen(places: Sequence[tuple[str, int]]) -> Change[None]:
    """Return the change that notes that the agent has them not."""
    return _each("UPDATE inbound SET seen = 0 WHERE mailbox = ? AND position = ?", places)


def delete(places: Sequence[tuple[str, int]]) -> Change[None]:
    """Return the change that forgets them."""
    return _each("DELETE FROM inbound WHERE mailbox = ? AND position = ?", places)


def _each(text: str, places: Sequence[tuple[str, int]]) -> Change[None]:
    def change(connection: sqlite3.Connection) -> None:
        connection.executemany(text, places)

    return change


def forget(mailbox: str) -> Change[None]:
    """Return the change that forgets a mailbox."""

    def change(connection: sqlite3.Connection) -> None:
        for table in ("inbound", "cursors"):
            connection.execute(f"DELETE FROM {table} WHERE mailbox = ?", (mailbox,))  # noqa: S608 - our own names

    return change


def reoffer(mailbox: str) -> Change[None]:
    """Return the change that shows what was seen to the next process, once more."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE inbound SET seen = 0, attempt = attempt + 1 WHERE mailbox = ? AND seen = 1", (mailbox,))

    return change


def offered(boxes: Mapping[str, Mapping[int, Item]]) -> Iterator[tuple[str, Item]]:
    """Yield what may be shown, in order: behind a message that an earlier process failed at, nothing of the same sender."""
    for mailbox, box in boxes.items():
        failing: set[str] = set()
        for item in box.values():
            if item.sender in failing:
                continue
            if item.attempt > 1:
                failing.add(item.sender)
            if not item.seen:
                yield mailbox, item


def over(boxes: Mapping[str, Mapping[int, Item]], now_ms: int) -> Iterator[tuple[str, int]]:
    """Yield (mailbox, position) of what nobody has seen and whose time is over."""
    for mailbox, box in boxes.items():
        for item in box.values():
            if not item.seen and 0 < item.expire_ms <= now_ms:
                yield mailbox, item.position

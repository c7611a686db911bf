"""What has to reach the control plane: frames in order, journalled before they are sent, forgotten when they are committed.

When the journal fills up: output is refused first (from half of its bound on, which shows as a gap in its offsets), then messages
(their senders get RESOURCE_EXHAUSTED) and progress; receipts, states of tasks and results are always taken.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from agent_sidecar.run.task import Lease
from agent_sidecar.uplink.frames import Answer, Entry, Frame, Kind, Published, Refusal, lease_of, lease_text, numbered
from agent_sidecar.uplink.journal import Change, Journal

BATCH_BYTES: Final = 256 << 10
_BODIES_BYTES: Final = 2 << 20
_NONE: Final[Mapping[int, Published]] = {}


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """Bounds in bytes."""

    journal: int = 64 << 20
    """Of everything that waits."""
    output_ahead: int = 4 << 20
    """Of output that waits while the control plane is there: beyond it the agent's write(2) blocks."""


class Outbox:
    """The journalled frames. All methods belong to one event loop.

    Args:
        journal: Opened; `load` reads from it.
        limits: Bounds.
    """

    def __init__(self, journal: Journal, limits: OutboxLimits | None = None) -> None:
        self._journal = journal
        self._limits = limits or OutboxLimits()
        self._entries: dict[int, Entry] = {}
        self._bodies: dict[int, bytes] = {}
        self._bodies_bytes = 0
        self._last = 0
        self._bytes = 0
        self._output_bytes = 0
        self._waiters: dict[int, asyncio.Future[Answer]] = {}
        self._room = asyncio.Event()
        self._on_ready: Callable[[], None] = _nothing
        self.connected = False
        self._unsent_after: int | None = None
        self.upload_wanted = asyncio.Event()
        self.drained = asyncio.Event()
        """Set while everything is committed."""
        self.drained.set()

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what an earlier life left. Before anything is appended."""
        connection.execute("DELETE FROM uplink WHERE kind = ?", (int(Kind.PASSING),))
        rows = connection.execute("SELECT sequence, kind, length(body), attachment, lease FROM uplink ORDER BY sequence")
        for sequence, kind, size, attachment, lease in rows.fetchall():
            self._add(Entry(sequence, Kind(kind), size, attachment, lease_of(lease), held=bool(attachment)))
            self._count(Kind(kind), size)

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever there is more to send."""
        self._on_ready = callback

    def append(
        self, frame: Frame, also: Change[None] | None = None, answer: asyncio.Future[Answer] | None = None
    ) -> asyncio.Future[int]:
        """Journal a frame; it will be sent. Order of calls is order on the wire.

        Args:
            frame: The frame.
            also: A change of the journal that happens with it or not at all.
            answer: Gets the control plane's answer; cancelled if nobody will ever know.

        Returns:
            Its sequence, once it is durable.
        """

        def insert(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT value FROM facts WHERE name = 'last_sequence'").fetchone()
            sequence = (row[0] if row else 0) + 1
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('last_sequence', ?)", (sequence,))
            connection.execute(
                "INSERT INTO uplink VALUES (?, ?, ?, ?, ?)",
                (sequence, int(frame.kind), frame.body, frame.attachment, lease_text(frame.lease)),
            )
            if also is not None:
                also(connection)
            return sequence

        def remember(sequence: int) -> None:
            held = bool(frame.attachment)
            self._add(Entry(sequence, frame.kind, len(frame.body), frame.attachment, frame.lease, held=held))
            self._keep(sequence, frame.body)
            if answer is not None:
                self._waiters[sequence] = answer
            self._on_ready()

        self._count(frame.kind, len(frame.body))  # from now on, so that what is on its way to the disk is bounded too
        appended = self._journal.submit(insert, remember)
        appended.add_done_callback(lambda done: self._uncount_failed(done, frame))
        return appended

    def _uncount_failed(self, appended: asyncio.Future[int], frame: Frame) -> None:
        if appended.cancelled() or appended.exception() is None:
            return
        self._count(frame.kind, -len(frame.body))

    def takes_message(self, size: int) -> bool:
        """Tell whether there is room for a message."""
        return self._bytes + size <= self._limits.journal

    async def takes_output(self, size: int) -> bool:
        """Tell whether there is room for output, waiting for it while the control plane is there to make some."""
        while self.connected and self._output_bytes + size > self._limits.output_ahead:
            self._room.clear()
            await self._room.wait()
        return self._bytes + size <= self._limits.journal // 2

    def uncommitted_leases(self) -> tuple[Lease, ...]:
        """Return the leases whose result is not committed yet; they are renewed until it is."""
        return tuple(entry.lease for entry in self._entries.values() if entry.lease is not None)

    async def batch(self, after: int) -> list[tuple[int, bytes]]:
        """Return the next frames after a sequence, ready for the wire, up to 256 KiB; none while the next one is held back."""
        chosen: list[int] = []
        size = 0
        for sequence in range(max(after + 1, next(iter(self._entries), 0)), self._last + 1):
            entry = self._entries.get(sequence)
            if entry is None:
                continue
            if entry.held or (chosen and size + entry.size > BATCH_BYTES):
                break
            chosen.append(sequence)
            size += entry.size
        missing = [sequence for sequence in chosen if sequence not in self._bodies]
        found = dict(await self._read(missing)) if missing else {}
        frames = [(sequence, self._bodies.get(sequence) or found.get(sequence)) for sequence in chosen]
        return [(sequence, numbered(sequence, body)) for sequence, body in frames if body is not None]

    def resume(self, committed: int) -> int:
        """Begin a session; return the sequence after which sending goes on.

        Ephemeral messages of an earlier session were dropped when it ended: nobody knows whether they arrived, and the control
        plane, which keeps nothing of them, would hand them over twice.

        Args:
            committed: What the control plane has of this life of the sidecar; 0 after a restart of either, and everything
                uncommitted is sent again.
        """
        self._drop_passing()
        self._unsent_after = None
        for sequence in list(takewhile(lambda each: each <= committed, self._entries)):
            self._drop(sequence)  # it was taken or refused, and the answer is lost
        self._delete(committed)
        self.connected = True
        return committed

    def disconnected(self, sent: int | None = None) -> None:
        """Take note that the session ended; output is not held back any more.

        Args:
            sent: What was sent, if the session was handed over: ephemeral messages after it go with the next one.
        """
        self.connected = False
        self._room.set()
        self._unsent_after = sent
        self._drop_passing()

    def _drop_passing(self) -> None:
        """Drop ephemeral messages, but for those that were certainly never sent."""
        last = self._unsent_after
        passing = [entry.sequence for entry in self._entries.values() if entry.kind is Kind.PASSING]
        gone = [sequence for sequence in passing if last is None or sequence <= last]
        for sequence in gone:
            self._drop(sequence)
        if gone:
            self._journal.submit(
                lambda connection: connection.executemany("DELETE FROM uplink WHERE sequence = ?", [(each,) for each in gone])
            )

    def _drop(self, sequence: int) -> None:
        """Forget a frame whose answer nobody will know."""
        self._forget(sequence)
        if (waiter := self._waiters.pop(sequence, None)) is not None:
            waiter.cancel()

    def committed(
        self, sequence: int, refused: Mapping[int, Refusal], published: Mapping[int, Published] = _NONE
    ) -> list[tuple[Entry, Refusal]]:
        """Forget what is committed and tell who waits; return the results that were refused and should be sent again later."""
        again: list[tuple[Entry, Refusal]] = []
        for number in list(takewhile(lambda each: each <= sequence, self._entries)):
            refusal = refused.get(number)
            entry = self._entries[number]
            if refusal is not None and refusal.retry_seconds > 0 and entry.kind is Kind.RESULT:
                again.append((entry, refusal))
                continue
            self._forget(number)
            if (waiter := self._waiters.pop(number, None)) is not None and not waiter.done():
                waiter.set_result(refusal or published.get(number))
        self._delete(sequence, keep=[entry.sequence for entry, _ in again])
        return again

    async def repeat(self, entry: Entry) -> None:
        """Number a refused result anew, at the end."""
        found = dict(await self._read([entry.sequence]))
        self._forget(entry.sequence)
        old = entry.sequence
        frame = Frame(entry.kind, found[old], entry.attachment, entry.lease)
        await self.append(frame, lambda connection: _drop(connection, old))

    def held(self) -> Entry | None:
        """Return the oldest frame whose attachment is not stored yet."""
        return next((entry for entry in self._entries.values() if entry.held), None)

    def release(self, sequence: int) -> None:
        """Let a frame go: its attachment is stored."""
        if sequence in self._entries:
            self._entries[sequence].held = False
            self._on_ready()

    async def replace(self, sequence: int, change: Callable[[bytes], bytes]) -> None:
        """Change a held frame's body and let it go: its attachment was refused for good."""
        found = dict(await self._read([sequence]))
        body = change(found[sequence])
        await self._journal.submit(
            lambda connection: _execute(
                connection, "UPDATE uplink SET body = ?, attachment = '' WHERE sequence = ?", body, sequence
            )
        )
        self._discard_body(sequence)
        self.release(sequence)

    def attachments(self) -> frozenset[str]:
        """Return the attachments that are still needed."""
        return frozenset(entry.attachment for entry in self._entries.values() if entry.attachment)

    def _add(self, entry: Entry) -> None:
        self._entries[entry.sequence] = entry
        self._last = entry.sequence
        self.drained.clear()
        if entry.held:
            self.upload_wanted.set()

    def _count(self, kind: Kind, size: int) -> None:
        self._bytes += size
        if kind is Kind.OUTPUT:
            self._output_bytes += size

    def _keep(self, sequence: int, body: bytes) -> None:
        if self._bodies_bytes + len(body) <= _BODIES_BYTES:
            self._bodies[sequence] = body
            self._bodies_bytes += len(body)

    def _discard_body(self, sequence: int) -> None:
        body = self._bodies.pop(sequence, None)
        self._bodies_bytes -= len(body) if body is not None else 0

    def _forget(self, sequence: int) -> None:
        entry = self._entries.pop(sequence)
        self._count(entry.kind, -entry.size)
        self._discard_body(sequence)
        self._room.set()
        if not self._entries:
            self.drained.set()

    def _delete(self, up_to: int, keep: Iterable[int] = ()) -> None:
        kept = tuple(keep)
        marks = ",".join("?" * len(kept))
        text = f"DELETE FROM uplink WHERE sequence <= ? AND sequence NOT IN ({marks})"  # noqa: S608 - marks only
        self._journal.submit(lambda connection: _execute(connection, text, up_to, *kept))

    async def _read(self, sequences: list[int]) -> list[tuple[int, bytes]]:
        marks = ",".join("?" * len(sequences))
        text = f"SELECT sequence, body FROM uplink WHERE sequence IN ({marks})"  # noqa: S608 - marks only
        return await self._journal.submit(lambda connection: connection.execute(text, sequences).fetchall())


def _nothing() -> None:
    """Nobody wants to know yet."""


def _drop(connection: sqlite3.Connection, sequence: int) -> None:
    _execute(connection, "DELETE FROM uplink WHERE sequence = ?", sequence)


def _execute(connection: sqlite3.Connection, text: str, *values: object) -> None:
    connection.execute(text, values)

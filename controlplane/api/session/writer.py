"""In which order, and how many at once, do frames leave for a sidecar?"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from claude_conductor.errors import ControlPlaneUnavailableError
from controlplane.api.session import encode
from controlplane.api.session.acknowledging import Acknowledger
from controlplane.domain.message import StoredFrame
from controlplane.domain.question import Question
from controlplane.domain.task import FailureKind, Lease, Task
from controlplane.service.sessions import Answer

BATCH_BYTES = 256 << 10
"""Deliveries written at once."""
_CONTROL_FRAMES = 1024
_ANSWERS = 1024
"""Refusals, and answers about copies, that wait for one sidecar; past it nothing more is taken from it until it has read them."""


@dataclass(frozen=True, slots=True)
class StreamBounds:
    """How much may be under way in one session. Sizes in bytes."""

    queue_bytes: int = 1 << 20
    """Deliveries that wait for one receiver; past it they stay in the store."""
    ahead_messages: int = 10_000
    ahead_bytes: int = 4 << 20
    """What a sidecar may send ahead of the answers."""


class Writer:
    """The Link of a session: one write at a time; what came meanwhile goes into the next one, with no timer involved.

    Nothing leaves before the welcome. Then frames other than deliveries go first.
    """

    def __init__(self, on_room: Callable[[Writer], None], bounds: StreamBounds | None = None) -> None:
        """Begin with nothing to write.

        Args:
            on_room: Called when deliveries may be queued again.
            bounds: How much is queued, and how much credit is given.
        """
        self._on_room = on_room
        self._bounds = bounds or StreamBounds()
        self._welcome: bytes | None = None
        self._welcomed = False
        self._control: deque[bytes] = deque()
        self._deliveries: deque[encode.Entry] = deque()
        self._queued_bytes = 0
        """In-flight ones included."""
        self._in_flight = 0
        self._credit: tuple[int, int] | None = None
        self._ahead = (0, 0)
        """Messages and bytes delivered before there was any word of credit; the first grant pays for them."""
        self._acknowledger = Acknowledger(self._due)
        self._answered = asyncio.Event()
        self._used = (0, 0)
        self._ended: str | None = None
        self._until_end: asyncio.Timeout | None = None
        self.writing = False
        """A write is under way."""
        self.writes = 0
        """Writes that ended."""
        self.heard = 0
        """Frames that came from the sidecar, counted by who reads them."""
        self._news = asyncio.Event()

    @property
    def room(self) -> int:
        """Bytes of deliveries that may be queued now."""
        if self._ended is not None:
            return 0
        room = self._bounds.queue_bytes - self._queued_bytes
        if self._credit is None:  # until the sidecar says how much it takes, the queue and the transport bound it
            return room
        messages, size = self._credit
        return min(room, size) if messages > 0 else 0

    def grant(self, messages: int, size: int) -> None:
        """Note that the sidecar can take more."""
        before = self._credit or self._ahead
        self._credit = (before[0] + messages, before[1] + size)
        self._on_room(self)

    def welcome(self, frame: bytes) -> None:
        """Write this first."""
        self._welcome = frame
        self._news.set()

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        """Queue a frame of messages."""
        for entry in encode.deliveries(frame, after_position):
            self._deliveries.append(entry)
            self._queued_bytes += entry.size
            if self._credit is not None:
                self._credit = (self._credit[0] - entry.messages, self._credit[1] - entry.size)
            else:
                self._ahead = (self._ahead[0] - entry.messages, self._ahead[1] - entry.size)
        self._news.set()

    def assign(self, task: Task, traceparent: str) -> None:
        """Hand over a leased task."""
        if task.lease is not None:
            self._say(encode.assignment(task, task.lease, traceparent))

    def cancel(self, lease: Lease, grace: float, reason: str, kind: FailureKind) -> None:
        """Ask for the end of a task."""
        self._say(encode.cancellation(lease, grace, reason, kind))

    def revoke(self, leases: Sequence[Lease]) -> None:
        """Tell that leases are no longer valid."""
        self._say(encode.revocation(leases))

    def close_question(self, lease: Lease, question: Question) -> None:
        """Tell what became of the agent's question."""
        self._say(encode.question_closed(lease, question))

    def hold(self, credential: str, reset: float, turn: float) -> None:
        """Tell that a credential takes no requests."""
        self._say(encode.credential_hold(credential, reset, turn))

    def move(self, deadline: float) -> None:
        """Tell that this stream ends."""
        self._say(encode.move(deadline))

    def committed(self, sequence: int, answers: Sequence[Answer], messages: int, size: int, *, receipts: bool = False) -> None:
        """Tell up to where the journal was taken, and give back the credit it used once that is a quarter of it.

        Args:
            sequence: Up to there.
            answers: What is to be said of some of the frames.
            messages: How many messages they carried.
            size: Their bytes.
            receipts: Whether they were nothing but receipts; then the word may wait a little for a delivery to ride on.
        """
        self._used = (self._used[0] + messages, self._used[1] + size)
        if self._used[0] * 4 >= self._bounds.ahead_messages or self._used[1] * 4 >= self._bounds.ahead_bytes:
            self._say(encode.credit(*self._used))
            self._used = (0, 0)
        self._acknowledger.taken(sequence, answers, receipts=receipts)

    async def answered(self) -> None:
        """Wait while more answers are unwritten than are kept: who does not read them is not listened to either."""
        while self._acknowledger.answers >= _ANSWERS:
            self._answered.clear()
            await self._answered.wait()

    def end(self, reason: str) -> None:
        """End the session: `run` raises, even out of a write that does not end."""
        if self._ended is None and self._until_end is not None:
            self._until_end.reschedule(0.0)
        self._ended = self._ended or reason

    def _due(self) -> None:
        self._news.set()

    def _say(self, frame: bytes) -> None:
        if len(self._control) >= _CONTROL_FRAMES:
            self.end("the sidecar does not read")
            return
        self._control.append(frame)
        self._news.set()

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write until cancelled.

        Raises:
            ControlPlaneUnavailableError: Somebody ended the session; the sidecar may connect again.
        """
        try:
            async with asyncio.timeout(0.0 if self._ended is not None else None) as self._until_end:
                await self._write_all(write)
        except TimeoutError as cause:
            raise ControlPlaneUnavailableError(f"The session was ended: {self._ended}.") from cause
        finally:
            self._until_end = None
            self._acknowledger.close()

    async def _write_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        while True:
            frame = self._next() or self._next_deliveries()
            if frame is None:
                self._news.clear()
                await self._news.wait()
                continue
            self.writing = True
            await write(frame)
            self.writing = False
            self.writes += 1
            if self._in_flight:
                self._queued_bytes -= self._in_flight
                self._in_flight = 0
                self._on_room(self)

    async def drain(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write the answers that are left; the sidecar has finished sending. Deliveries come again in its next session."""
        self._acknowledger.release()
        self._deliveries.clear()
        while (frame := self._next()) is not None:
            await write(frame)

    def _next(self) -> bytes | None:
        if not self._welcomed:
            self._welcomed = self._welcome is not None
            return self._welcome
        if self._control:
            return self._control.popleft()
        if self._deliveries and not self._acknowledger.answers:
            return None  # the word rides on them
        if (told := self._acknowledger.alone()) is None:
            return None
        self._answered.set()
        return encode.committed(*told)

    def _next_deliveries(self) -> bytes | None:
        if not self._deliveries or not self._welcomed:
            return None
        entries = [self._deliveries.popleft()]
        size = entries[0].size
        while self._deliveries and size + self._deliveries[0].size <= BATCH_BYTES:
            entries.append(self._deliveries.popleft())
            size += entries[-1].size
        self._in_flight = size
        return encode.delivery(entries, self._acknowledger.riding())

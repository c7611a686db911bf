"""In which order, and how many at once, do frames leave for a sidecar?"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from claude_conductor.errors import ControlPlaneUnavailableError
from controlplane.api.session import encode
from controlplane.domain.message import StoredFrame
from controlplane.domain.task import FailureKind, Lease, Task
from controlplane.service.sessions import Answer

QUEUE_BYTES = 1 << 20
"""Deliveries that wait for one receiver; past it they stay in the store."""
BATCH_BYTES = 256 << 10
"""Deliveries written at once."""
CREDIT_MESSAGES = 10_000
CREDIT_BYTES = 4 << 20
"""What a sidecar may send ahead of the answers."""
_CONTROL_FRAMES = 1024


class Writer:
    """The Link of a session: one write at a time; what came meanwhile goes into the next one, with no timer involved.

    Nothing leaves before the welcome. Then frames other than deliveries go first.
    """

    def __init__(
        self, on_room: Callable[[Writer], None], ahead_messages: int = CREDIT_MESSAGES, ahead_bytes: int = CREDIT_BYTES
    ) -> None:
        """Begin with nothing to write.

        Args:
            on_room: Called when deliveries may be queued again.
            ahead_messages: What the sidecar was told it may send ahead of the answers.
            ahead_bytes: The same in bytes.
        """
        self._quarter = (ahead_messages // 4, ahead_bytes // 4)
        self._on_room = on_room
        self._welcome: bytes | None = None
        self._welcomed = False
        self._control: deque[bytes] = deque()
        self._deliveries: deque[bytes] = deque()
        self._queued_bytes = 0
        self._credit: tuple[int, int] | None = None
        self._ahead = (0, 0)
        """Messages and bytes delivered before there was any word of credit; the first grant pays for them."""
        self._committed: int | None = None
        self._answers: list[Answer] = []
        self._used = (0, 0)
        self._ended: str | None = None
        self._news = asyncio.Event()

    @property
    def room(self) -> int:
        """Bytes of deliveries that may be queued now."""
        if self._ended is not None:
            return 0
        room = QUEUE_BYTES - self._queued_bytes
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
        for messages, entry in encode.deliveries(frame, after_position):
            self._deliveries.append(entry)
            self._queued_bytes += len(entry)
            if self._credit is not None:
                self._credit = (self._credit[0] - messages, self._credit[1] - len(entry))
            else:
                self._ahead = (self._ahead[0] - messages, self._ahead[1] - len(entry))
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

    def move(self, deadline: float) -> None:
        """Tell that this stream ends."""
        self._say(encode.move(deadline))

    def committed(self, sequence: int, answers: Sequence[Answer], messages: int, size: int) -> None:
        """Tell up to where the journal was taken, and give back the credit it used once that is a quarter of it."""
        self._committed = sequence
        self._answers.extend(answers)
        self._used = (self._used[0] + messages, self._used[1] + size)
        if self._used[0] >= self._quarter[0] or self._used[1] >= self._quarter[1]:
            self._say(encode.credit(*self._used))
            self._used = (0, 0)
        self._news.set()

    def end(self, reason: str) -> None:
        """End the session: `run` raises at its next turn."""
        self._ended = self._ended or reason
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
        while True:
            if self._ended is not None:
                raise ControlPlaneUnavailableError(f"The session was ended: {self._ended}.")
            frame = self._next()
            if frame is not None:
                await write(frame)
            elif not await self._write_deliveries(write):
                self._news.clear()
                await self._news.wait()

    async def drain(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write the answers that are left; the sidecar has finished sending."""
        while (frame := self._next()) is not None:
            await write(frame)

    def _next(self) -> bytes | None:
        if not self._welcomed:
            self._welcomed = self._welcome is not None
            return self._welcome
        if self._control:
            return self._control.popleft()
        if self._committed is not None:
            frame = encode.committed(self._committed, self._answers)
            self._committed, self._answers = None, []
            return frame
        return None

    async def _write_deliveries(self, write: Callable[[bytes], Awaitable[None]]) -> bool:
        if not self._deliveries or not self._welcomed:
            return False
        entries = [self._deliveries.popleft()]
        size = len(entries[0])
        while self._deliveries and size + len(self._deliveries[0]) <= BATCH_BYTES:
            entries.append(self._deliveries.popleft())
            size += len(entries[-1])
        await write(encode.delivery(entries))
        self._queued_bytes -= size
        self._on_room(self)
        return True

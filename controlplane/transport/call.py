"""What goes on in one call? Messages that arrived and are not read, the answer, the deadline, the end; bytes on both sides."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

import grpc

from controlplane.transport import answers
from controlplane.transport.http2.codes import ErrorCode
from controlplane.transport.http2.connection import Connection
from controlplane.transport.http2.stream import Stream
from controlplane.transport.identity import Identity
from controlplane.transport.invocation import Invocation
from controlplane.transport.limits import Limits
from controlplane.transport.messages import PREFIX_BYTES, MessageReader
from controlplane.transport.metadata import Metadata
from controlplane.transport.refusal import CallRefusedError, Code

READ_AHEAD: Final = 1 << 20
"""Bytes a peer may send ahead on a stream that a handler reads from; on others it is the window every stream begins with."""
_STREAMING: Final = 2
"""With its second read a handler shows that it reads a stream."""


_AT_ONCE: Final = 128
"""Messages a handler reads or writes without anybody else having a turn."""


class Line(Protocol):
    """Where a call's bytes go."""

    connection: Connection
    peer: str
    identity: Identity

    def flush(self) -> None:
        """Hand over what the connection has written."""


class Call:
    """One call, from its request's headers to the status of its answer.

    It ends once: with a status of ours (`finish`), or because the peer gave it up, its deadline passed or the connection is lost.
    In the last three the task that serves it is cancelled.
    """

    __slots__ = (
        "_at_once",
        "_blocked",
        "_deadline",
        "_largest_sent",
        "_line",
        "_loop",
        "_reader",
        "_reads",
        "_requests",
        "_stream",
        "_timer",
        "begun",
        "finished",
        "invocation",
        "lost",
        "messages",
        "task",
    )

    def __init__(self, line: Line, stream: Stream, invocation: Invocation, limits: Limits) -> None:
        """Begin before the first message; the deadline runs.

        Args:
            line: Where its bytes go.
            stream: Of the line's connection.
            invocation: What is called.
            limits: How large messages may be.
        """
        self._line = line
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._requests = MessageReader(limits.largest_received)
        self._largest_sent = limits.largest_sent
        self._reader: asyncio.Future[None] | None = None
        """Of the handler, while it waits for a message."""
        self._reads = 0
        self._at_once = 0
        self._blocked: asyncio.Future[None] | None = None
        """While something waits for the peer or the transport to take it."""
        self._deadline = None if invocation.timeout is None else self._loop.time() + invocation.timeout
        self._timer = None if self._deadline is None else self._loop.call_at(self._deadline, self._expire)
        self.invocation = invocation
        self.messages: deque[bytes] = deque()
        """Arrived, and not read."""
        self.begun = False
        """Whether the headers of the answer have left."""
        self.finished = False
        """Whether nothing can be written any more."""
        self.lost = False
        """Whether it ended otherwise than by a status of ours."""
        self.task: asyncio.Task[None] | None = None
        """What serves it."""

    @property
    def peer(self) -> str:
        """Who calls, as an address of gRPC."""
        return self._line.peer

    @property
    def identity(self) -> Identity:
        """What TLS says of who calls; nothing without it."""
        return self._line.identity

    @property
    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    # What happens to it ------------------------------------------------------------------------------------------------------

    def arrived(self, data: bytes, *, ended: bool) -> None:
        """Take a piece of the request's body."""
        if self.finished:
            return
        try:
            self.messages += self._requests.feed(data)
        except CallRefusedError as refused:
            self._break_off(refused.code, refused.details)
            return
        if ended and not self._requests.between:
            self._break_off(Code.INTERNAL, "The request ends within a message.")
            return
        if self._reader is None:
            return
        if self.messages or ended:
            self._wake_reader()
        elif self._requests.missing:
            self._line.connection.demand(self._stream, self._requests.missing)

    def drained(self) -> None:
        """Note that what waited has left."""
        if self._blocked is not None and not self._blocked.done():
            self._blocked.set_result(None)
        self._blocked = None

    def lose(self) -> None:
        """Note that nobody waits for an answer any more: the peer gave the call up, or the connection is lost."""
        unfinished = not self.finished
        self.finished = True
        self.lost = self.lost or unfinished
        if unfinished and self.task is not None:
            self.task.cancel()
        self._wake_reader()
        self.drained()

    def stop(self) -> None:
        """End it because the server stops."""
        self._break_off(Code.UNAVAILABLE, "The server is stopping.")

    def _expire(self) -> None:
        if self._stream.outbox and not self.finished:  # behind what the peer does not take a status would wait for ever
            self._line.connection.reset(self._stream, ErrorCode.CANCEL)
            self._line.flush()
            self.lose()
        else:
            self._break_off(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _break_off(self, code: grpc.StatusCode, details: str) -> None:
        """End it with a status that its handler did not choose."""
        if self.finished:
            return
        self.finish(code, details)
        self.lost = True
        if self.task is not None:
            self.task.cancel()
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # What its handler does ---------------------------------------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """Return the next message of the request, mostly at once if it is there; None after the last one."""
        await self._turn()
        self._reads += 1
        if self._reads == _STREAMING:
            self._line.connection.widen(self._stream, READ_AHEAD)
            self._line.flush()
        if not self.messages and not await self._arrival():
            return None
        message = self.messages.popleft()
        self._line.connection.read(self._stream, len(message) + PREFIX_BYTES)
        self._line.flush()
        return message

    async def _arrival(self) -> bool:
        if not self._stream.ended_in and not self.finished:
            if self._requests.missing:
                self._line.connection.demand(self._stream, self._requests.missing)
                self._line.flush()
            reader = self._reader = self._loop.create_future()
            try:
                await reader
            finally:
                if self._reader is reader:  # another may have begun to read before this one knew that it was given up
                    self._reader = None
        return bool(self.messages)

    def begin(self, metadata: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """Send the headers of the answer.

        Raises:
            ValueError: Metadata that no header can carry.
        """
        if not (self.begun or self.finished):
            self._line.connection.send_headers(self._stream, answers.beginning(metadata))
            self.begun = True
            self._line.flush()

    async def send(self, message: bytes) -> None:
        """Send a message of the answer; back when the peer and the transport took it. If cancelled it still goes out, whole.

        Raises:
            grpc.aio.InternalError: The call has ended.
            CallRefusedError: The message is too large; the call has ended with that.
        """
        while self._blocked is not None:  # one before was cancelled
            await asyncio.shield(self._blocked)
        self.check_open()
        if len(message) > self._largest_sent:
            raise CallRefusedError(
                Code.RESOURCE_EXHAUSTED, f"Sent message larger than max ({len(message)} vs. {self._largest_sent})"
            )
        connection = self._line.connection
        if not self.begun:
            self.begun = True
            connection.send_headers(self._stream, answers.beginning())
        gone = connection.send_message(self._stream, message)
        self._line.flush()
        if gone:
            await self._turn()
        else:
            blocked = self._blocked = self._loop.create_future()
            await asyncio.shield(blocked)
            if self.lost:
                self.check_open()

    async def _turn(self) -> None:
        """Let others have their turn now and then: what is there, or leaves, at once makes nobody wait by itself."""
        self._at_once += 1
        if self._at_once >= _AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)

    def check_open(self) -> None:
        """Make sure that something can still be written.

        Raises:
            grpc.aio.InternalError: It cannot.
        """
        if self.finished:
            raise grpc.aio.InternalError("The call has ended.")

    def finish(self, code: grpc.StatusCode, details: str = "", metadata: Metadata = ()) -> None:
        """Send the status, behind the messages that wait; nothing if the call has ended.

        Raises:
            ValueError: Metadata that no header can carry.
        """
        if self.finished:
            return
        block = answers.end(code, details, metadata, alone=not self.begun)
        self.finished = True
        self._line.connection.send_trailers(self._stream, block)
        self._line.flush()

    def close(self) -> None:
        """Forget the deadline: its handler is done."""
        if self._timer is not None:
            self._timer.cancel()

"""Which data may leave now? RFC 9113, section 5.2: within the windows of stream and connection, streams in turn."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from controlplane.transport.http2 import codes, frames
from controlplane.transport.http2.settings import PeerSettings
from controlplane.transport.http2.stream import Stream

PREFIX_BYTES: Final = 5
"""Before each message of gRPC: a flag for compression, and the length."""
_PREFIX: Final = struct.Struct(">BI")
_HEAD_AND_PREFIX: Final = struct.Struct(">IBIBI")
_LARGEST_DATA: Final = 256 << 10
"""Bytes of one DATA frame, however large the peer takes them: until it ends, no other stream has its turn."""


class Outflow:
    """Everything that leaves on one connection: frames at once, data when the peer takes it."""

    def __init__(self, peer: PeerSettings, ended: Callable[[Stream], None]) -> None:
        """Begin with nothing to send.

        Args:
            peer: What the peer takes.
            ended: Called when the last frame of a stream was written.
        """
        self._peer = peer
        self._ended = ended
        self._turns: deque[Stream] = deque()
        """Streams with data, but for those whose own window is used up."""
        self.written: list[bytes] = []
        """What is to be handed to the transport, in order; the I/O takes it away."""
        self.window = codes.DEFAULT_WINDOW
        """Bytes the peer takes on all streams together."""
        self.writable = True
        """Whether the transport takes more; data waits while it does not, everything else does not."""
        self.messages = 0
        """Messages that left whole at once, or began to leave."""

    def send(self, stream: Stream, message: bytes) -> bool:
        """Send one message of gRPC, and tell whether all of it left. What did not will: `pump` says when."""
        self.messages += 1
        size = len(message) + PREFIX_BYTES
        if (
            size <= stream.window
            and size <= self.window
            and size <= self._peer.max_frame_size
            and size <= _LARGEST_DATA
            and self.writable
            and not stream.outbox
        ):
            stream.window -= size
            self.window -= size
            self.written.append(_HEAD_AND_PREFIX.pack(size << 8, 0, stream.id, 0, size - PREFIX_BYTES))
            self.written.append(message)
            return True
        if not stream.outbox:
            self._turns.append(stream)
        stream.outbox.append(memoryview(_PREFIX.pack(0, len(message))))
        if message:
            stream.outbox.append(memoryview(message))
        self.pump()  # of this stream alone: others are in turn only while nothing can leave at all
        return not stream.outbox

    def end(self, stream: Stream, trailers: bytes) -> None:
        """Send the block that ends the answer, once everything before it has left."""
        stream.trailers = trailers
        if not stream.outbox:
            self._finish(stream)

    def opened(self, stream: Stream) -> None:
        """Note that the stream's own window has grown."""
        if stream.outbox and stream not in self._turns:
            self._turns.append(stream)

    def drop(self, stream: Stream) -> None:
        """Forget what waits of a stream that is no more."""
        stream.outbox.clear()
        if stream in self._turns:
            self._turns.remove(stream)

    def pump(self) -> list[Stream]:
        """Send what windows and transport allow, and return the streams of which nothing waits any more."""
        drained: list[Stream] = []
        while self._turns and self.window > 0 and self.writable:
            stream = self._turns.popleft()
            if not self._send_some(stream):
                continue  # its own window is used up; `opened` brings it back
            if stream.outbox:
                self._turns.append(stream)
                continue
            drained.append(stream)
            if stream.trailers is not None:
                self._finish(stream)
        return drained

    def _send_some(self, stream: Stream) -> bool:
        room = min(stream.window, self.window, self._peer.max_frame_size, _LARGEST_DATA)
        pieces: list[memoryview] = []
        size = 0
        while stream.outbox and size < room:
            first = stream.outbox.popleft()
            piece = first[: room - size]
            if len(piece) < len(first):
                stream.outbox.appendleft(first[len(piece) :])
            pieces.append(piece)
            size += len(piece)
        if not size:
            return False
        stream.window -= size
        self.window -= size
        self.written.append(frames.head(codes.DATA, 0, stream.id, size))
        self.written += [bytes(piece) for piece in pieces]
        return True

    def _finish(self, stream: Stream) -> None:
        assert stream.trailers is not None
        self.written.append(frames.headers(stream.id, stream.trailers, self._peer.max_frame_size, end_stream=True))
        self._ended(stream)

"""What is known of one stream? RFC 9113, section 5.1; the states of a client's request, without those of pushes."""

from __future__ import annotations

from collections import deque

from controlplane.transport.http2.flow import Inflow


class Stream:
    """A request and its answer. It is forgotten once both have ended: idle and closed streams are told by their number alone."""

    __slots__ = ("_arrived", "ended_in", "ended_out", "expected", "id", "inflow", "outbox", "trailers", "window")

    def __init__(self, stream_id: int, inflow: Inflow, window: int, expected: int | None) -> None:
        """Begin open to both sides.

        Args:
            stream_id: Its number.
            inflow: What the peer may send.
            window: Bytes the peer takes.
            expected: Bytes of body that were promised by `content-length`.
        """
        self.id = stream_id
        self.inflow = inflow
        self.window = window
        """Bytes the peer takes; below 0 after it made its initial window smaller."""
        self.expected = expected
        self._arrived = 0
        self.outbox: deque[memoryview] = deque()
        """Data that waits for a window or for the transport."""
        self.trailers: bytes | None = None
        """The header block that ends the answer, behind what waits."""
        self.ended_in = False
        self.ended_out = False

    def counts(self, size: int, *, ended: bool) -> bool:
        """Note a piece of body, and tell whether that agrees with the promised length."""
        self._arrived += size
        if ended and not self.ended_in:
            self.ended_in = True
        return self.expected is None or (self._arrived == self.expected if ended else self._arrived <= self.expected)

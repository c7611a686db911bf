"""What do both ends of a connection announce? RFC 9113, section 6.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.transport.http2 import codes
from controlplane.transport.http2.codes import ErrorCode, PeerConnectionError

_ENABLE_PUSH: Final = 0x2
_MAX_CONCURRENT_STREAMS: Final = 0x3
_INITIAL_WINDOW_SIZE: Final = 0x4
_MAX_FRAME_SIZE: Final = 0x5
_MAX_HEADER_LIST_SIZE: Final = 0x6


@dataclass(frozen=True, slots=True)
class Announced:
    """What we take from a peer. Sizes in bytes."""

    max_concurrent_streams: int = 100
    stream_window: int = codes.DEFAULT_WINDOW
    """Of a request nobody reads from yet; the protocol's own default, so that it holds before any acknowledgement."""
    connection_window: int = 16 << 20
    """Given back as data arrives: streams hold back their senders, the connection only a peer that is faster than our loop."""
    max_frame_size: int = 256 << 10
    max_header_list_size: int = 16 << 10
    """Announced, and what a caller is refused for; a list of four times that ends the connection."""

    def values(self) -> Sequence[tuple[int, int]]:
        """Return what the first SETTINGS frame says."""
        return (
            (_MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
            (_INITIAL_WINDOW_SIZE, self.stream_window),
            (_MAX_FRAME_SIZE, self.max_frame_size),
            (_MAX_HEADER_LIST_SIZE, self.max_header_list_size),
        )


class PeerSettings:
    """What the peer takes; the protocol's defaults until it says otherwise.

    The size of its header table is of no interest: our blocks never refer to one (`header_block.encode`).
    """

    __slots__ = ("initial_window", "max_frame_size")

    def __init__(self) -> None:
        self.initial_window = codes.DEFAULT_WINDOW
        self.max_frame_size = codes.SMALLEST_FRAME_LIMIT

    def take(self, values: Sequence[tuple[int, int]]) -> int:
        """Take over what a SETTINGS frame says, and return by how much the window of every stream grew; it may shrink.

        Raises:
            PeerConnectionError: A value the protocol does not allow.
        """
        before = self.initial_window
        for identifier, value in values:
            if identifier == _INITIAL_WINDOW_SIZE:
                if value > codes.LARGEST_WINDOW:
                    raise PeerConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window of more than 2^31 - 1 bytes")
                self.initial_window = value
            elif identifier == _MAX_FRAME_SIZE:
                if not codes.SMALLEST_FRAME_LIMIT <= value <= codes.LARGEST_FRAME_LIMIT:
                    raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "a largest frame outside of what the protocol allows")
                self.max_frame_size = value
            elif identifier == _ENABLE_PUSH and value > 1:
                raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "push is either 0 or 1")
        return self.initial_window - before

"""Does a frame have the place and the size that its kind has? RFC 9113, section 6."""

from __future__ import annotations

from typing import Final

from controlplane.transport.http2 import codes
from controlplane.transport.http2.codes import ErrorCode, PeerConnectionError, PeerStreamError
from controlplane.transport.http2.frames import Frame

_OF_STREAMS: Final = frozenset({codes.DATA, codes.HEADERS, codes.PRIORITY, codes.RST_STREAM, codes.CONTINUATION})
_OF_CONNECTIONS: Final = frozenset({codes.SETTINGS, codes.PING, codes.GOAWAY})
_SIZES: Final = {codes.RST_STREAM: 4, codes.PING: 8, codes.WINDOW_UPDATE: 4}
_SETTING_BYTES: Final = 6
_SHORTEST_GOAWAY: Final = 8
_PRIORITY_BYTES: Final = 5


def check(frame: Frame) -> None:
    """Look at a frame by itself, whatever was before it.

    Raises:
        PeerConnectionError: It is on no stream and has to be on one, or the other way round; or its size is wrong.
        PeerStreamError: A PRIORITY frame of another size.
    """
    kind, size = frame.kind, len(frame.payload)
    if (kind in _OF_STREAMS and not frame.stream_id) or (kind in _OF_CONNECTIONS and frame.stream_id):
        raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame in the wrong place: connection or stream")
    if kind == codes.PRIORITY and size != _PRIORITY_BYTES:
        raise PeerStreamError(frame.stream_id, ErrorCode.FRAME_SIZE_ERROR, "a priority of another size than it has")
    if _SIZES.get(kind, size) != size or not _fits(frame, size):
        raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a frame of another size than its kind has")


def _fits(frame: Frame, size: int) -> bool:
    if frame.kind == codes.SETTINGS:
        return size == 0 if frame.flags & codes.ACK else size % _SETTING_BYTES == 0
    return frame.kind != codes.GOAWAY or size >= _SHORTEST_GOAWAY

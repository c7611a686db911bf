"""How do bytes become frames, and frames bytes? RFC 9113, sections 4.1 and 6."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from controlplane.transport.http2 import codes
from controlplane.transport.http2.codes import ErrorCode, PeerConnectionError, PeerStreamError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
_HEAD: Final = struct.Struct(">IBI")  # length and type share the first word: 24 bits and 8
_WORD: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")
_STREAM_ID: Final = 0x7FFF_FFFF


class Frame(NamedTuple):
    """One frame as it came, padding included."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


class FrameReader:
    """Cuts what arrives, in whatever pieces, into frames. It keeps one frame that is not whole yet, never more."""

    def __init__(self, largest: int) -> None:
        """Begin at the start of a frame.

        Args:
            largest: Bytes of payload that were announced as SETTINGS_MAX_FRAME_SIZE.
        """
        self._largest = largest
        self._rest = bytearray()
        self._needed = HEAD_BYTES

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now, in order; read to the end before the next piece is fed.

        Raises:
            PeerConnectionError: A frame is larger than announced.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:  # so that a frame that dribbles in is copied once, not once a piece
                return
            data = bytes(self._rest)
            self._rest.clear()
        start, end = 0, len(data)
        self._needed = HEAD_BYTES
        while end - start >= HEAD_BYTES:
            word, flags, stream_id = _HEAD.unpack_from(data, start)
            size = word >> 8
            if size > self._largest:
                raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes, {self._largest} are taken")
            after = start + HEAD_BYTES + size
            if after > end:
                self._needed = HEAD_BYTES + size
                break
            yield Frame(word & 0xFF, flags, stream_id & _STREAM_ID, data[start + HEAD_BYTES : after])
            start = after
        if start < end:
            self._rest += data[start:]


def content(frame: Frame) -> bytes:
    """Return the payload of DATA or HEADERS without padding and priority.

    Raises:
        PeerConnectionError: There is more padding than frame.
        PeerStreamError: A stream depends on itself.
    """
    payload, start, end = frame.payload, 0, len(frame.payload)
    if frame.flags & codes.PADDED:
        if not payload or payload[0] >= end:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
        start, end = 1, end - payload[0]
    if frame.kind == codes.HEADERS and frame.flags & codes.WITH_PRIORITY:
        if end - start < _SHORTEST_PRIORITY:
            raise PeerConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a priority that is cut off")
        check_dependency(frame.stream_id, payload[start:end])
        start += _SHORTEST_PRIORITY
    return payload[start:end]


_SHORTEST_PRIORITY: Final = 5


def check_dependency(stream_id: int, priority: bytes) -> None:
    """Look at the one rule of priorities that is left (RFC 9113, section 5.3.2); they are ignored otherwise.

    Raises:
        PeerStreamError: The size is wrong, or the stream depends on itself.
    """
    if len(priority) < _SHORTEST_PRIORITY:
        raise PeerStreamError(stream_id, ErrorCode.FRAME_SIZE_ERROR, "a priority that is cut off")
    if number(priority) & _STREAM_ID == stream_id:
        raise PeerStreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")


def number(payload: bytes) -> int:
    """Return the 32 bits a payload begins with."""
    value: int = _WORD.unpack_from(payload)[0]
    return value


def settings_in(payload: bytes) -> Sequence[tuple[int, int]]:
    """Return identifiers and values of a SETTINGS frame whose size fits, in order."""
    return list(_SETTING.iter_unpack(payload))


def head(kind: int, flags: int, stream_id: int, size: int) -> bytes:
    """Return the nine bytes before a payload."""
    return _HEAD.pack(size << 8 | kind, flags, stream_id)


def headers(stream_id: int, block: bytes, largest: int, *, end_stream: bool) -> bytes:
    """Return a header block as HEADERS and as many CONTINUATION frames as the peer's largest frame makes necessary."""
    flags = codes.END_STREAM if end_stream else 0
    if len(block) <= largest:
        return head(codes.HEADERS, flags | codes.END_HEADERS, stream_id, len(block)) + block
    pieces = [block[start : start + largest] for start in range(0, len(block), largest)]
    out = [head(codes.HEADERS, flags, stream_id, largest), pieces[0]]
    for piece in pieces[1:-1]:
        out += head(codes.CONTINUATION, 0, stream_id, largest), piece
    out += head(codes.CONTINUATION, codes.END_HEADERS, stream_id, len(pieces[-1])), pieces[-1]
    return b"".join(out)


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Return the end of one stream."""
    return head(codes.RST_STREAM, 0, stream_id, _WORD.size) + _WORD.pack(code)


def settings(values: Sequence[tuple[int, int]]) -> bytes:
    """Return what we take, as identifiers and values."""
    payload = b"".join([_SETTING.pack(identifier, value) for identifier, value in values])
    return head(codes.SETTINGS, 0, 0, len(payload)) + payload


SETTINGS_ACK: Final = head(codes.SETTINGS, codes.ACK, 0, 0)


def ping(payload: bytes, *, ack: bool) -> bytes:
    """Return a ping, or the answer to one; eight bytes either way."""
    return head(codes.PING, codes.ACK if ack else 0, 0, len(payload)) + payload


def goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """Return up to which stream requests were or will be looked at, and why no more."""
    payload = _WORD.pack(last_stream_id) + _WORD.pack(code) + reason.encode()
    return head(codes.GOAWAY, 0, 0, len(payload)) + payload


def window_update(stream_id: int, increment: int) -> bytes:
    """Return how many more bytes may come; stream 0 is the connection."""
    return head(codes.WINDOW_UPDATE, 0, stream_id, _WORD.size) + _WORD.pack(increment)

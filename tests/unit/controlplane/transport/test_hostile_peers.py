"""Whatever a peer sends, it is answered with the error RFC 9113 has for it, and nothing is kept."""

from __future__ import annotations

import struct

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.transport.http2 import codes, frames
from controlplane.transport.http2.codes import ErrorCode
from controlplane.transport.http2.connection import Connection
from controlplane.transport.http2.events import ConnectionEnded, RequestBegan
from controlplane.transport.http2.frames import FrameReader
from controlplane.transport.http2.settings import Announced

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), ("content-type", "application/grpc")]
HELLO = frames.PREFACE + frames.settings([])


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return frames.head(kind, flags, stream, len(payload)) + payload


def word(value: int) -> bytes:
    return struct.pack(">I", value)


def block(*more: tuple[str, str], request: list[tuple[str, str]] | None = None) -> bytes:
    raw: bytes = hpack.Encoder().encode([*(REQUEST if request is None else request), *more])
    return raw


def asks(stream: int = 1, *more: tuple[str, str], end: bool = False, request: list[tuple[str, str]] | None = None) -> bytes:
    flags = codes.END_HEADERS | (codes.END_STREAM if end else 0)
    return frame(codes.HEADERS, block(*more, request=request), flags, stream)


def said(server: Connection) -> list[tuple[int, int, bytes]]:
    """Kind, stream and payload of what the server has written."""
    written = b"".join(server.take_written())
    return [(each.kind, each.stream_id, each.payload) for each in FrameReader(1 << 20).feed(written)]


def verdict(data: bytes, now: float = 0.0) -> str:
    """What the server makes of these bytes: `connection CODE`, `stream N CODE`, or `fine`."""
    server = Connection(Announced())
    said(server)
    server.receive(data, now)
    answers = said(server)
    for kind, _, payload in answers:
        if kind == codes.GOAWAY:
            assert server.over
            assert server.idle
            return f"connection {ErrorCode(int.from_bytes(payload[4:8])).name}"
    for kind, stream, payload in answers:
        if kind == codes.RST_STREAM:
            return f"stream {stream} {ErrorCode(int.from_bytes(payload)).name}"
    return "fine"


def padded(size: int, padding: int) -> bytes:
    return bytes((padding,)) + bytes(size - 1)


TABLE = {
    "HTTP/1.1": (b"GET / HTTP/1.1\r\n\r\n", "connection PROTOCOL_ERROR"),
    "a preface that goes wrong late": (frames.PREFACE[:-1] + b"x", "connection PROTOCOL_ERROR"),
    "no settings first": (frames.PREFACE + frame(codes.PING, bytes(8)), "connection PROTOCOL_ERROR"),
    "data before settings": (frames.PREFACE + frame(codes.DATA, b"x", 0, 1), "connection PROTOCOL_ERROR"),
    "an acknowledgement first": (frames.PREFACE + frames.SETTINGS_ACK, "connection PROTOCOL_ERROR"),
    "a frame larger than announced": (HELLO + frames.head(codes.DATA, 0, 1, (256 << 10) + 1), "connection FRAME_SIZE_ERROR"),
    "settings on a stream": (HELLO + frame(codes.SETTINGS, b"", 0, 1), "connection PROTOCOL_ERROR"),
    "settings that are cut off": (HELLO + frame(codes.SETTINGS, bytes(5)), "connection FRAME_SIZE_ERROR"),
    "an acknowledgement with settings": (HELLO + frame(codes.SETTINGS, bytes(6), codes.ACK), "connection FRAME_SIZE_ERROR"),
    "a push setting of 2": (HELLO + frames.settings([(2, 2)]), "connection PROTOCOL_ERROR"),
    "an initial window that is too large": (HELLO + frames.settings([(4, 1 << 31)]), "connection FLOW_CONTROL_ERROR"),
    "a largest frame that is too small": (HELLO + frames.settings([(5, 100)]), "connection PROTOCOL_ERROR"),
    "a largest frame that is too large": (HELLO + frames.settings([(5, 1 << 24)]), "connection PROTOCOL_ERROR"),
    "a setting nobody knows": (HELLO + frames.settings([(0x99, 7)]), "fine"),
    "a stream window that a setting makes too large": (
        HELLO + asks() + frames.window_update(1, (1 << 31) - 1 - 65_535) + frames.settings([(4, 65_536)]),
        "connection FLOW_CONTROL_ERROR",
    ),
    "a ping on a stream": (HELLO + frame(codes.PING, bytes(8), 0, 1), "connection PROTOCOL_ERROR"),
    "a ping of seven bytes": (HELLO + frame(codes.PING, bytes(7)), "connection FRAME_SIZE_ERROR"),
    "a goaway on a stream": (HELLO + frame(codes.GOAWAY, bytes(8), 0, 1), "connection PROTOCOL_ERROR"),
    "a goaway that is cut off": (HELLO + frame(codes.GOAWAY, bytes(7)), "connection FRAME_SIZE_ERROR"),
    "a goaway": (HELLO + frames.goaway(0, ErrorCode.NO_ERROR), "fine"),
    "a push promise": (HELLO + asks() + frame(codes.PUSH_PROMISE, bytes(8), 0, 1), "connection PROTOCOL_ERROR"),
    "a frame of a kind nobody knows": (HELLO + frame(0xFA, b"whatever", 0xFF, 3), "fine"),
    "an unknown frame within a header block": (
        HELLO + frame(codes.HEADERS, block(), 0, 1) + frame(0xFA, b"x", 0, 1),
        "connection PROTOCOL_ERROR",
    ),
    "data within a header block": (
        HELLO + frame(codes.HEADERS, block(), 0, 1) + frame(codes.DATA, b"x", 0, 1),
        "connection PROTOCOL_ERROR",
    ),
    "a continuation of another stream": (
        HELLO + frame(codes.HEADERS, block(), 0, 1) + frame(codes.CONTINUATION, b"", codes.END_HEADERS, 3),
        "connection PROTOCOL_ERROR",
    ),
    "a continuation of nothing": (HELLO + frame(codes.CONTINUATION, b"", codes.END_HEADERS, 1), "connection PROTOCOL_ERROR"),
    "a continuation after the end": (
        HELLO + asks() + frame(codes.CONTINUATION, b"", codes.END_HEADERS, 1),
        "connection PROTOCOL_ERROR",
    ),
    "a flood of continuations": (
        HELLO + frame(codes.HEADERS, b"", 0, 1) + frame(codes.CONTINUATION, b"", 0, 1) * 100,
        "connection ENHANCE_YOUR_CALM",
    ),
    "a header block without end": (
        HELLO + frame(codes.HEADERS, b"", 0, 1) + frame(codes.CONTINUATION, bytes(16_000), 0, 1) * 10,
        "connection ENHANCE_YOUR_CALM",
    ),
    "an HPACK bomb": (
        HELLO + frame(codes.HEADERS, block(("x", "v" * 3000)) + b"\xbe" * 10_000, codes.END_HEADERS, 1),
        "connection ENHANCE_YOUR_CALM",
    ),
    "headers that are no HPACK": (
        HELLO + frame(codes.HEADERS, b"\xff" * 20, codes.END_HEADERS, 1),
        "connection COMPRESSION_ERROR",
    ),
    "a header that is cut off": (HELLO + frame(codes.HEADERS, b"\x40\x0a", codes.END_HEADERS, 1), "connection COMPRESSION_ERROR"),
    "a header table that is too large": (
        HELLO + frame(codes.HEADERS, b"\x3f\xe1\xff\x03" + block(), codes.END_HEADERS, 1),
        "connection COMPRESSION_ERROR",
    ),
    "headers on no stream": (HELLO + frame(codes.HEADERS, block(), codes.END_HEADERS, 0), "connection PROTOCOL_ERROR"),
    "headers on a server's stream": (HELLO + asks(2), "connection PROTOCOL_ERROR"),
    "headers on an earlier stream": (HELLO + asks(5) + asks(3), "connection STREAM_CLOSED"),
    "headers twice": (HELLO + asks(1) + asks(1), "stream 1 PROTOCOL_ERROR"),
    "headers after the end": (HELLO + asks(1, end=True) + asks(1, end=True), "stream 1 STREAM_CLOSED"),
    "headers that depend on themselves": (
        HELLO + frame(codes.HEADERS, word(1) + b"\0" + block(), codes.END_HEADERS | codes.WITH_PRIORITY, 1),
        "stream 1 PROTOCOL_ERROR",
    ),
    "headers with padding and priority": (
        HELLO
        + frame(
            codes.HEADERS,
            b"\x03" + word(3) + b"\0" + block() + bytes(3),
            codes.END_HEADERS | codes.WITH_PRIORITY | codes.PADDED,
            1,
        ),
        "fine",
    ),
    "headers with more padding than frame": (
        HELLO + frame(codes.HEADERS, b"\xff" + block(), codes.END_HEADERS | codes.PADDED, 1),
        "connection PROTOCOL_ERROR",
    ),
    "headers with half a priority": (
        HELLO + frame(codes.HEADERS, bytes(3), codes.END_HEADERS | codes.WITH_PRIORITY, 1),
        "connection FRAME_SIZE_ERROR",
    ),
    "a priority": (HELLO + frame(codes.PRIORITY, word(3) + b"\0", 0, 1), "fine"),
    "a priority of another size": (HELLO + frame(codes.PRIORITY, bytes(4), 0, 1), "stream 1 FRAME_SIZE_ERROR"),
    "a priority on itself": (HELLO + frame(codes.PRIORITY, word(1) + b"\0", 0, 1), "stream 1 PROTOCOL_ERROR"),
    "a priority on no stream": (HELLO + frame(codes.PRIORITY, bytes(5)), "connection PROTOCOL_ERROR"),
    "upper case": (HELLO + asks(1, ("X-Upper", "v")), "stream 1 PROTOCOL_ERROR"),
    "a line break in a value": (HELLO + asks(1, ("x", "a\r\nb: c")), "stream 1 PROTOCOL_ERROR"),
    "a connection header": (HELLO + asks(1, ("connection", "close")), "stream 1 PROTOCOL_ERROR"),
    "te that is not trailers": (HELLO + asks(1, ("te", "gzip")), "stream 1 PROTOCOL_ERROR"),
    "no path": (HELLO + asks(1, request=REQUEST[:2]), "stream 1 PROTOCOL_ERROR"),
    "an empty path": (HELLO + asks(1, request=[*REQUEST[:2], (":path", "")]), "stream 1 PROTOCOL_ERROR"),
    "two paths": (HELLO + asks(1, request=[(":path", "/x"), *REQUEST]), "stream 1 PROTOCOL_ERROR"),
    "a pseudo-header of answers": (HELLO + asks(1, request=[(":status", "200"), *REQUEST]), "stream 1 PROTOCOL_ERROR"),
    "a pseudo-header too late": (HELLO + asks(1, (":authority", "x")), "stream 1 PROTOCOL_ERROR"),
    "trailers that do not end": (
        HELLO + asks(1) + frame(codes.HEADERS, block(request=[("x", "y")]), 4, 1),
        "stream 1 PROTOCOL_ERROR",
    ),
    "trailers with a pseudo-header": (HELLO + asks(1) + asks(1, end=True), "stream 1 PROTOCOL_ERROR"),
    "trailers": (HELLO + asks(1) + frame(codes.HEADERS, block(request=[("x", "y")]), 5, 1), "fine"),
    "a body longer than promised": (
        HELLO + asks(1, ("content-length", "3")) + frame(codes.DATA, b"four", 0, 1),
        "stream 1 PROTOCOL_ERROR",
    ),
    "a body shorter than promised": (
        HELLO + asks(1, ("content-length", "5")) + frame(codes.DATA, b"four", codes.END_STREAM, 1),
        "stream 1 PROTOCOL_ERROR",
    ),
    "a promised body that does not come": (HELLO + asks(1, ("content-length", "5"), end=True), "stream 1 PROTOCOL_ERROR"),
    "a body as long as promised": (
        HELLO + asks(1, ("content-length", "4")) + frame(codes.DATA, b"four", codes.END_STREAM, 1),
        "fine",
    ),
    "two lengths": (HELLO + asks(1, ("content-length", "5"), ("content-length", "6")), "stream 1 PROTOCOL_ERROR"),
    "a length that is no number": (HELLO + asks(1, ("content-length", "-1")), "stream 1 PROTOCOL_ERROR"),
    "data on no stream": (HELLO + frame(codes.DATA, b"x"), "connection PROTOCOL_ERROR"),
    "data on a stream nobody opened": (HELLO + frame(codes.DATA, b"x", 0, 1), "connection PROTOCOL_ERROR"),
    "data after the end": (HELLO + asks(1, end=True) + frame(codes.DATA, b"x", 0, 1), "stream 1 STREAM_CLOSED"),
    "data after a reset": (
        HELLO + asks(1) + frames.rst_stream(1, ErrorCode.CANCEL) + frame(codes.DATA, b"x", 0, 1),
        "stream 1 STREAM_CLOSED",
    ),
    "data that is all padding and more": (
        HELLO + asks(1) + frame(codes.DATA, padded(5, 5), codes.PADDED, 1),
        "connection PROTOCOL_ERROR",
    ),
    "padding without a length": (HELLO + asks(1) + frame(codes.DATA, b"", codes.PADDED, 1), "connection PROTOCOL_ERROR"),
    "more than the stream's window": (HELLO + asks(1) + frame(codes.DATA, bytes(65_536), 0, 1), "stream 1 FLOW_CONTROL_ERROR"),
    "a window that grows by nothing": (HELLO + frames.window_update(0, 0), "connection PROTOCOL_ERROR"),
    "a stream's window that grows by nothing": (HELLO + asks(1) + frames.window_update(1, 0), "stream 1 PROTOCOL_ERROR"),
    "a window that overflows": (HELLO + frames.window_update(0, (1 << 31) - 1), "connection FLOW_CONTROL_ERROR"),
    "a stream's window that overflows": (HELLO + asks(1) + frames.window_update(1, (1 << 31) - 1), "stream 1 FLOW_CONTROL_ERROR"),
    "a window of a stream nobody opened": (HELLO + frames.window_update(1, 1), "connection PROTOCOL_ERROR"),
    "a window of a stream that has ended": (
        HELLO + asks(1) + frames.rst_stream(1, ErrorCode.CANCEL) + frames.window_update(1, 1),
        "fine",
    ),
    "a window update of three bytes": (HELLO + frame(codes.WINDOW_UPDATE, bytes(3)), "connection FRAME_SIZE_ERROR"),
    "a reset of no stream": (HELLO + frame(codes.RST_STREAM, word(8)), "connection PROTOCOL_ERROR"),
    "a reset of a stream nobody opened": (HELLO + frames.rst_stream(1, ErrorCode.CANCEL), "connection PROTOCOL_ERROR"),
    "a reset of three bytes": (HELLO + asks(1) + frame(codes.RST_STREAM, bytes(3), 0, 1), "connection FRAME_SIZE_ERROR"),
    "a reset with a code nobody knows": (HELLO + asks(1) + frame(codes.RST_STREAM, word(0x999), 0, 1), "fine"),
    "more streams than announced": (
        HELLO + b"".join(asks(stream) for stream in range(1, 203, 2)),
        "stream 201 REFUSED_STREAM",
    ),
    "rapid resets": (
        HELLO + b"".join(asks(stream) + frames.rst_stream(stream, ErrorCode.CANCEL) for stream in range(1, 2001, 2)),
        "connection ENHANCE_YOUR_CALM",
    ),
    "resets that the server is made to send": (
        HELLO + b"".join(asks(stream) + frames.window_update(stream, 0) for stream in range(1, 2001, 2)),
        "connection ENHANCE_YOUR_CALM",
    ),
    "a flood of requests beyond the limit": (
        HELLO + b"".join(asks(stream) for stream in range(1, 2001, 2)),
        "connection ENHANCE_YOUR_CALM",
    ),
    "a flood of pings": (HELLO + frame(codes.PING, bytes(8)) * 1000, "connection ENHANCE_YOUR_CALM"),
    "a flood of settings": (HELLO + frames.settings([]) * 1000, "connection ENHANCE_YOUR_CALM"),
    "a flood of empty data": (HELLO + asks(1) + frame(codes.DATA, b"", 0, 1) * 1000, "connection ENHANCE_YOUR_CALM"),
    "a flood of data that is only padding": (
        HELLO + asks(1) + frame(codes.DATA, padded(2, 1), codes.PADDED, 1) * 1000,
        "connection ENHANCE_YOUR_CALM",
    ),
}


@pytest.mark.parametrize(("data", "expected"), TABLE.values(), ids=TABLE.keys())
def test_the_answer_is_the_one_the_standard_has(data: bytes, expected: str):
    assert verdict(data) == expected


@pytest.mark.parametrize(("data", "expected"), TABLE.values(), ids=TABLE.keys())
def test_it_is_the_same_byte_by_byte(data: bytes, expected: str):
    server = Connection(Announced())
    said(server)
    whole = Connection(Announced())
    said(whole)
    for index in range(len(data)):
        server.receive(data[index : index + 1], 0.0)
    whole.receive(data, 0.0)

    assert said(server) == said(whole), expected


def test_more_than_the_connections_window_ends_the_connection():
    server = Connection(Announced(connection_window=65_535, stream_window=1 << 20))
    server.receive(HELLO + asks(1) + frame(codes.DATA, bytes(65_536), 0, 1), 0.0)

    assert (codes.GOAWAY, 0, word(1) + word(ErrorCode.FLOW_CONTROL_ERROR)) in [(k, s, p[:8]) for k, s, p in said(server)]


def test_the_headers_of_a_refused_stream_still_count_for_the_table_of_the_next():
    server = Connection(Announced(max_concurrent_streams=1))
    encoder = hpack.Encoder()
    first, second, third = (
        encoder.encode([*REQUEST, ("x-name", "value")]),
        encoder.encode([*REQUEST, ("x-other", "value")]),
        encoder.encode([*REQUEST, ("x-name", "value"), ("x-other", "value")]),
    )
    events = server.receive(
        HELLO
        + frame(codes.HEADERS, first, codes.END_HEADERS, 1)
        + frame(codes.HEADERS, second, codes.END_HEADERS, 3)
        + frames.rst_stream(1, ErrorCode.CANCEL)
        + frame(codes.HEADERS, third, codes.END_HEADERS, 5),
        0.0,
    )

    heads = [event.head for event in events if isinstance(event, RequestBegan)]
    assert [head.fields[1:] for head in heads] == [[(b"x-name", b"value")], [(b"x-name", b"value"), (b"x-other", b"value")]]


def test_pings_are_in_order_at_their_pace_and_as_often_as_messages_travel():
    server = Connection(Announced())
    server.receive(HELLO + asks(1), 0.0)
    for second in range(5000):
        server.receive(frame(codes.PING, bytes(8)), float(second))
    for _ in range(5000):  # a client that measures the line with each message
        server.receive(frame(codes.DATA, b"m", 0, 1) + frame(codes.PING, bytes(8)), 5000.0)
        for event in server.receive(b"", 5000.0):
            assert not isinstance(event, ConnectionEnded)
        stream = server._streams[1]
        server.read(stream, 1)

    assert not server.over


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_rubbish_never_raises_and_never_stays(pieces: list[bytes]):
    server = Connection(Announced())
    for piece in [HELLO, *pieces]:
        server.receive(piece, 0.0)

    assert len(server._reader._rest) <= (256 << 10) + 9
    assert len(server._streams) <= 100


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10),
            st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 32, 36, 37, 45]),
            st.integers(0, 8),
            st.one_of(st.binary(max_size=40), st.just(block()), st.just(word(1)), st.just(word(70_000)), st.just(bytes(8))),
        ),
        max_size=40,
    )
)
def test_frames_in_any_order_never_raise(sequence: list[tuple[int, int, int, bytes]]):
    server = Connection(Announced())
    server.receive(HELLO, 0.0)
    for kind, flags, stream, payload in sequence:
        for event in server.receive(frame(kind, payload, flags, stream), 0.0):
            if isinstance(event, RequestBegan) and stream == 5:
                server.send_message(event.stream, bytes(70_000))
                server.send_trailers(event.stream, b"")
        server.take_written()

    assert len(server._streams) <= 5

"""The HTTP/2 core against another implementation of the protocol, whatever the pieces that bytes arrive in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given
from hypothesis import strategies as st

from controlplane.transport.http2.codes import GOAWAY, ErrorCode
from controlplane.transport.http2.codes import HEADERS as HEADERS_FRAME
from controlplane.transport.http2.connection import Connection
from controlplane.transport.http2.events import BodyArrived, Drained, Event, RequestBegan, StreamEnded
from controlplane.transport.http2.frames import FrameReader
from controlplane.transport.http2.header_block import encode
from controlplane.transport.http2.settings import Announced
from controlplane.transport.http2.stream import Stream

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "x"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
BEGIN = encode([(":status", "200"), ("content-type", "application/grpc")])
END = encode([("grpc-status", "0")])


@dataclass
class Pair:
    """A server of ours and a client of h2; bytes travel when told."""

    window: int = 65_535
    largest_frame: int = 16_384
    cut: Callable[[int], int] = field(default=lambda size: size)
    """How much of what waits arrives next."""
    now: float = 0.0

    def __post_init__(self) -> None:
        self.server = Connection(Announced())
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: self.window,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: self.largest_frame,
            },
        )
        self.client.max_inbound_frame_size = self.largest_frame
        self.client.initiate_connection()
        self.seen: list[Event] = []
        self.answers: list[h2.events.Event] = []
        self.travel()

    def travel(self) -> None:
        """Let everything arrive that was written, on both sides, until nothing more follows."""
        while True:
            up, down = self.client.data_to_send(), b"".join(self.server.take_written())
            if not (up or down):
                return
            while up:
                size = max(1, min(len(up), self.cut(len(up))))
                self.seen += self.server.receive(up[:size], self.now)
                up = up[size:]
            self.answers += self.client.receive_data(down) if down else []

    def ask(self, *, end: bool = False, headers: Sequence[tuple[str, str]] = HEADERS) -> tuple[int, Stream]:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, headers, end_stream=end)
        self.travel()
        return stream_id, next(e.stream for e in self.seen if isinstance(e, RequestBegan) and e.stream.id == stream_id)

    def body(self, stream: Stream) -> bytes:
        return b"".join(event.data for event in self.seen if isinstance(event, BodyArrived) and event.stream is stream)

    def received(self, stream_id: int) -> bytes:
        return b"".join(
            event.data for event in self.answers if isinstance(event, h2.events.DataReceived) and event.stream_id == stream_id
        )


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def test_a_request_and_its_answer_pass():
    pair = Pair()
    stream_id, stream = pair.ask()
    pair.client.send_data(stream_id, b"hello", end_stream=True)
    pair.travel()

    pair.server.send_headers(stream, BEGIN)
    assert pair.server.send_message(stream, b"answer")
    pair.server.send_trailers(stream, END)
    pair.travel()

    assert pair.body(stream) == b"hello"
    assert pair.received(stream_id) == framed(b"answer")
    trailers = [event.headers for event in pair.answers if isinstance(event, h2.events.TrailersReceived)]
    assert [dict(headers) for headers in trailers] == [{"grpc-status": "0"}]
    assert any(isinstance(event, h2.events.StreamEnded) for event in pair.answers)
    assert pair.server.idle


@given(
    pieces=st.lists(st.integers(1, 40_000), max_size=20),
    bodies=st.lists(st.binary(max_size=60_000), min_size=1, max_size=4),
    padding=st.integers(0, 255),
    huge=st.booleans(),
)
def test_requests_arrive_whole_in_whatever_pieces_and_with_whatever_padding(
    pieces: list[int], bodies: list[bytes], padding: int, *, huge: bool
):
    sizes = iter(pieces * 10_000)
    pair = Pair(cut=lambda size: next(sizes, size))
    headers = [*HEADERS, ("x-long", "v" * (14_000 if huge else 10))]
    opened = [pair.ask(headers=headers) for _ in bodies]
    for (stream_id, stream), body in zip(opened, bodies, strict=True):
        for start in range(0, len(body), 16_000):
            piece = body[start : start + 16_000]
            pair.client.send_data(stream_id, piece, pad_length=padding)
            pair.travel()
            pair.server.read(stream, len(piece))
            pair.travel()
        pair.client.end_stream(stream_id)
    pair.travel()

    assert [pair.body(stream) for _, stream in opened] == bodies
    assert not any(isinstance(event, StreamEnded) for event in pair.seen)
    assert not pair.server.over


@given(
    messages=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 100_000)), min_size=1, max_size=8),
    window=st.integers(0, 70_000),
    largest=st.integers(16_384, 200_000),
    paused=st.booleans(),
)
def test_answers_arrive_whole_and_in_order_whatever_the_windows(
    messages: list[tuple[int, int]], window: int, largest: int, *, paused: bool
):
    pair = Pair(window=window, largest_frame=largest)
    opened = [pair.ask(end=True) for _ in range(3)]
    if paused:
        pair.server.set_writable(writable=False)
    expected = {stream_id: b"" for stream_id, _ in opened}
    for _, stream in opened:
        pair.server.send_headers(stream, BEGIN)
    for index, size in messages:
        stream_id, stream = opened[index]
        message = bytes((index,)) * size
        pair.server.send_message(stream, message)
        expected[stream_id] += framed(message)
    for _, stream in opened:
        pair.server.send_trailers(stream, END)
    pair.seen += pair.server.set_writable(writable=True)
    pair.travel()
    for _ in range(200):
        if pair.server.idle:
            break
        pair.client.increment_flow_control_window(10_000)
        for stream_id, _ in opened:
            if not any(isinstance(e, h2.events.StreamEnded) and e.stream_id == stream_id for e in pair.answers):
                pair.client.increment_flow_control_window(5_000, stream_id)
        pair.travel()

    assert {stream_id: pair.received(stream_id) for stream_id in expected} == expected
    assert pair.server.idle


def test_what_waits_for_a_window_is_announced_when_it_has_left():
    pair = Pair(window=10)
    stream_id, stream = pair.ask(end=True)
    pair.server.send_headers(stream, BEGIN)

    assert not pair.server.send_message(stream, bytes(100))
    pair.travel()
    assert not [event for event in pair.seen if isinstance(event, Drained)]

    pair.client.increment_flow_control_window(200, stream_id)
    pair.travel()
    assert [event.stream for event in pair.seen if isinstance(event, Drained)] == [stream]


def test_a_message_larger_than_every_window_arrives_if_it_is_demanded():
    pair = Pair()
    stream_id, stream = pair.ask()
    left = 1_000_000
    while left:
        room = min(left, pair.client.local_flow_control_window(stream_id), 16_000)
        if not room:
            pair.server.demand(stream, left)
            pair.travel()
            continue
        pair.client.send_data(stream_id, bytes(room))
        pair.travel()
        left -= room

    assert len(pair.body(stream)) == 1_000_000
    pair.server.read(stream, 1_000_000)
    pair.travel()
    assert 32_000 <= pair.client.local_flow_control_window(stream_id) <= 65_535


def test_the_data_of_streams_that_we_ended_does_not_use_up_the_connection():
    pair = Pair()
    for _ in range(80):  # each leaves 60,000 unread bytes behind: more than the connection's window together
        stream_id, stream = pair.ask()
        for _ in range(4):
            pair.client.send_data(stream_id, bytes(15_000))
        pair.server.reset(stream, ErrorCode.CANCEL)
        pair.travel()

    assert pair.client.outbound_flow_control_window > 8 << 20
    assert not pair.server.over


def test_a_server_that_leaves_finishes_what_it_began_and_begins_nothing():
    pair = Pair()
    _, stream = pair.ask(end=True)
    pair.server.leave()
    written = pair.server.take_written()
    pair.client.send_headers(pair.client.get_next_available_stream_id(), HEADERS, end_stream=True)
    pair.travel()
    pair.server.send_trailers(stream, encode([(":status", "200"), ("grpc-status", "0")]))
    written += pair.server.take_written()

    assert len([event for event in pair.seen if isinstance(event, RequestBegan)]) == 1
    assert [(each.kind, each.stream_id) for each in FrameReader(1 << 20).feed(b"".join(written))] == [
        (GOAWAY, 0),
        (HEADERS_FRAME, 1),
    ]
    assert pair.server.idle


def test_what_a_server_that_leaves_has_taken_never_grows():
    pair = Pair()
    pair.ask(end=True)
    pair.server.leave()
    written = pair.server.take_written()
    pair.client.send_headers(pair.client.get_next_available_stream_id(), HEADERS, end_stream=True)
    pair.server.receive(pair.client.data_to_send() + bytes(9), 0.0)  # and DATA on no stream, which ends the connection
    written += pair.server.take_written()

    said = [each.payload for each in FrameReader(1 << 20).feed(b"".join(written)) if each.kind == GOAWAY]
    assert [(int.from_bytes(payload[:4]), int.from_bytes(payload[4:8])) for payload in said] == [
        (1, ErrorCode.NO_ERROR),
        (1, ErrorCode.PROTOCOL_ERROR),
    ]


def test_headers_larger_than_the_peers_frames_are_continued():
    pair = Pair()
    stream_id, stream = pair.ask(end=True)
    long = "v" * 40_000
    pair.client.max_inbound_frame_size = 16_384
    pair.client.decoder.max_header_list_size = 1 << 20
    pair.server.send_trailers(stream, encode([(":status", "200"), ("grpc-status", "0"), ("x", long)]))
    pair.travel()

    headers = [dict(event.headers) for event in pair.answers if isinstance(event, h2.events.ResponseReceived)]
    assert headers == [{":status": "200", "grpc-status": "0", "x": long}]
    assert stream_id == 1


def test_a_ping_is_answered_with_its_own_bytes():
    pair = Pair()
    pair.client.ping(b"12345678")
    pair.travel()

    assert [e.ping_data for e in pair.answers if isinstance(e, h2.events.PingAckReceived)] == [b"12345678"]

"""Peers that mean no good, on real sockets: each is ended clearly and soon, keeps little of ours, and others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import hpack
import pytest
import pytest_asyncio

from controlplane.transport.http2 import codes, frames
from controlplane.transport.http2.codes import ErrorCode
from controlplane.transport.http2.frames import FrameReader
from controlplane.transport.server import Server
from tests.fakes.waiting import eventually

HELLO = frames.PREFACE + frames.settings([])
OPTIONS = [
    ("grpc.keepalive_time_ms", 600),
    ("grpc.http2.ping_timeout_ms", 600),
    ("grpc.server_handshake_timeout_ms", 600),
    ("grpc.max_concurrent_streams", 10),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.max_metadata_size", 8 << 10),
]
SECONDS = 10.0
Bytes = grpc.aio.ServicerContext[bytes, bytes]


def asks(stream: int, method: str, *more: tuple[str, str], end: bool = True) -> bytes:
    block: bytes = hpack.Encoder().encode(
        [(":method", "POST"), (":scheme", "http"), (":path", f"/t.T/{method}"), ("content-type", "application/grpc"), *more]
    )
    return frames.headers(stream, block, 16_384, end_stream=end)


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frames.head(codes.DATA, flags, stream, len(payload)) + payload


class Place:
    """A server, how its handlers fare, and an honest client."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.peers: list[Peer] = []
        self.written = 0
        self.running = 0
        self.most = 0
        self.server = Server((), OPTIONS)
        kinds = {
            "echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "sleep": grpc.stream_stream_rpc_method_handler(self._sleep),
            "flood": grpc.unary_stream_rpc_method_handler(self._flood),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", kinds),))
        self.server.add_insecure_port(f"unix:{path}")
        self.honest = grpc.aio.insecure_channel(f"unix:{path}")

    async def _echo(self, request: bytes, context: Bytes) -> bytes:
        return request

    @contextlib.contextmanager
    def _counted(self):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield
        finally:
            self.running -= 1

    async def _sleep(self, requests: object, context: Bytes) -> None:
        with self._counted():
            await asyncio.sleep(60)

    async def _flood(self, request: bytes, context: Bytes) -> None:
        with self._counted():
            while True:
                await context.write(bytes(10_000))
                self.written += 10_000

    async def peer(self) -> Peer:
        self.peers.append(Peer(*await asyncio.open_unix_connection(str(self.path))))
        return self.peers[-1]

    async def close(self) -> None:
        await self.honest.close()
        await self.server.stop(None)
        for peer in self.peers:
            peer.writer.close()
            with contextlib.suppress(ConnectionError):
                await peer.writer.wait_closed()

    async def still_serves(self) -> None:
        assert await self.honest.unary_unary("/t.T/echo")(b"hello", timeout=SECONDS) == b"hello"


class Peer:
    """A client that says what a test wants said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self, *what: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(b"".join(what))
            await self.writer.drain()

    async def hears(self) -> list[frames.Frame]:
        """Everything until the server closes the connection."""
        said = bytearray()
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(1 << 16):
                    said += piece
        return list(FrameReader(1 << 24).feed(bytes(said)))

    async def until(self, kind: int, stream: int) -> frames.Frame:
        """The next frame of a kind on a stream."""
        while True:
            head = await self.reader.readexactly(frames.HEAD_BYTES)
            payload = await self.reader.readexactly(int.from_bytes(head[:3]))
            if (head[3], int.from_bytes(head[5:])) == (kind, stream):
                return frames.Frame(head[3], head[4], stream, payload)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    there = Place(tmp_path / "s.sock")
    await there.server.start()
    yield there
    await there.close()


BLOCK = hpack.Encoder().encode([("x", "v" * 3000)])
ENDED = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
    "a frame that is too large": (HELLO + frames.head(codes.DATA, 0, 1, 1 << 20), ErrorCode.FRAME_SIZE_ERROR),
    "an HPACK bomb": (
        HELLO + frames.headers(1, BLOCK + b"\xbe" * 10_000, 16_384, end_stream=True),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a flood of CONTINUATION": (
        HELLO + frames.head(codes.HEADERS, 0, 1, 0) + frames.head(codes.CONTINUATION, 0, 1, 0) * 100_000,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a flood of pings": (HELLO + frames.ping(bytes(8), ack=False) * 10_000, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of settings": (HELLO + frames.settings([(4, 1), (4, 65_535)]) * 10_000, ErrorCode.ENHANCE_YOUR_CALM),
    "rapid reset": (
        HELLO + b"".join([asks(s, "sleep") + frames.rst_stream(s, ErrorCode.CANCEL) for s in range(1, 4001, 2)]),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "rapid reset that the server is made to do": (
        HELLO + b"".join([asks(s, "sleep") + frames.window_update(s, 0) for s in range(1, 4001, 2)]),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a flood of streams": (HELLO + b"".join([asks(s, "sleep") for s in range(1, 4001, 2)]), ErrorCode.ENHANCE_YOUR_CALM),
    "a window that overflows": (HELLO + frames.window_update(0, (1 << 31) - 1), ErrorCode.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize(("said", "code"), ENDED.values(), ids=ENDED.keys())
async def test_a_connection_that_cannot_go_on_is_told_why_and_closed(place: Place, said: bytes, code: ErrorCode):
    peer = await place.peer()
    await peer.says(said)
    heard = [frame.payload for frame in await peer.hears() if frame.kind == codes.GOAWAY]

    assert [int.from_bytes(payload[4:8]) for payload in heard] == [code]
    assert place.most <= 10
    await eventually(lambda: not place.running and len(place.server._links) <= 1, SECONDS)
    await place.still_serves()


async def test_a_peer_that_stays_after_its_fault_is_cut_off(place: Place):
    peer = await place.peer()
    await peer.says(HELLO, frames.window_update(0, 0))
    await peer.until(codes.GOAWAY, 0)
    await peer.says(frames.ping(bytes(8), ack=True))

    await eventually(lambda: not place.server._links, SECONDS)


async def test_a_stream_beyond_the_limit_is_refused_and_the_others_go_on(place: Place):
    peer = await place.peer()
    await peer.says(HELLO, *[asks(stream, "sleep", end=False) for stream in range(1, 23, 2)])

    refused = await peer.until(codes.RST_STREAM, 21)
    assert int.from_bytes(refused.payload) == ErrorCode.REFUSED_STREAM
    assert place.running == 10
    await place.still_serves()


@pytest.mark.parametrize("said", [b"", frames.PREFACE[:5], frames.PREFACE, frames.PREFACE + frames.settings([(4, 1)])[:12]])
async def test_who_never_finishes_its_greeting_is_closed(place: Place, said: bytes):
    peer = await place.peer()
    await peer.says(said)

    await peer.hears()


async def test_who_answers_no_ping_is_closed_and_its_calls_with_it(place: Place):
    peer = await place.peer()
    await peer.says(HELLO, asks(1, "sleep", end=False))
    heard = await peer.hears()

    assert codes.PING in {frame.kind for frame in heard}
    await eventually(lambda: not place.running, SECONDS)


async def test_who_closes_its_half_ends_its_calls(place: Place):
    peer = await place.peer()
    await peer.says(HELLO, asks(1, "sleep", end=False))
    await eventually(lambda: place.running == 1, SECONDS)
    peer.writer.write_eof()

    await peer.hears()
    await eventually(lambda: not place.running, SECONDS)


async def test_an_answer_waits_for_a_window_of_the_peer_and_nothing_heaps_up(place: Place):
    peer = await place.peer()
    await peer.says(HELLO, frames.settings([(4, 0)]), asks(1, "flood", end=False), data(1, bytes(5), codes.END_STREAM))
    await peer.until(codes.HEADERS, 1)
    await place.still_serves()
    assert place.written == 0

    await peer.says(frames.window_update(1, 25_000))
    await eventually(lambda: place.written == 20_000, SECONDS)
    await place.still_serves()
    assert place.written == 20_000

    await peer.says(frames.rst_stream(1, ErrorCode.CANCEL))
    await eventually(lambda: not place.running, SECONDS)


async def test_a_request_nobody_reads_keeps_no_more_than_one_window(place: Place):
    peer = await place.peer()
    await peer.says(HELLO, asks(1, "sleep", end=False), *[data(1, bytes(13_107))] * 5)
    await place.still_serves()
    await peer.says(data(1, b"x"))

    refused = await peer.until(codes.RST_STREAM, 1)
    assert int.from_bytes(refused.payload) == ErrorCode.FLOW_CONTROL_ERROR
    await place.still_serves()


async def test_who_asks_and_asks_and_never_reads_is_cut_off(place: Place):
    peer = await place.peer()
    long = "m" * 200
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # the stubs know the base class only

    async def ask() -> None:
        for start in range(1, 200_001, 200):
            peer.writer.write(b"".join([asks(stream, long, ("grpc-encoding", "x")) for stream in range(start, start + 200, 2)]))
            await peer.writer.drain()

    peer.writer.write(HELLO)
    async with asyncio.timeout(50):
        with pytest.raises(ConnectionError):
            await ask()
    await place.still_serves()


async def test_a_compressed_request_is_refused_and_told_what_is_taken(place: Place):
    call = place.honest.unary_unary("/t.T/echo")(bytes(10_000), compression=grpc.Compression.Gzip, timeout=SECONDS)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "ompression" in str(refused.value.details())

    peer = await place.peer()
    await peer.says(HELLO, asks(1, "echo", ("grpc-encoding", "gzip")))
    headers = hpack.Decoder().decode((await peer.until(codes.HEADERS, 1)).payload)
    assert {("grpc-status", "12"), ("grpc-accept-encoding", "identity")} <= {(str(name), str(value)) for name, value in headers}


async def test_who_is_told_to_leave_ends_what_it_began_and_begins_nothing(place: Place):
    peer = await place.peer()
    await peer.says(HELLO, asks(1, "echo", end=False))
    await place.still_serves()
    stopping = asyncio.ensure_future(place.server.stop(SECONDS))
    goaway = await peer.until(codes.GOAWAY, 0)
    await peer.says(asks(3, "echo"), data(1, b"\0" + (5).to_bytes(4) + b"hello", codes.END_STREAM))

    assert [int.from_bytes(goaway.payload[at : at + 4]) for at in (0, 4)] == [1, ErrorCode.NO_ERROR]
    assert (await peer.until(codes.DATA, 1)).payload.endswith(b"hello")
    assert {frame.stream_id for frame in await peer.hears()} == {1}
    await stopping

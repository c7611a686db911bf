"""One call: what its handler reads and writes, and what others get of the event loop meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import hpack
import pytest

from controlplane.transport.call import Call
from controlplane.transport.http2 import codes, frames
from controlplane.transport.http2.connection import Connection
from controlplane.transport.http2.events import BodyArrived, Event, RequestBegan
from controlplane.transport.http2.frames import Frame, FrameReader
from controlplane.transport.http2.settings import Announced
from controlplane.transport.identity import NOBODY
from controlplane.transport.invocation import Invocation
from controlplane.transport.limits import Limits

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), ("content-type", "application/grpc")]
LARGE = (1 << 31) - 1


class Line:
    """A connection with one request; what it writes is kept."""

    def __init__(self, window: int) -> None:
        self.connection = Connection(Announced(stream_window=1 << 20))
        self.peer = "unix:"
        self.identity = NOBODY
        self.written: list[Frame] = []
        block = hpack.Encoder().encode(REQUEST)
        began = self.tell(
            frames.PREFACE
            + frames.settings([(4, window)])
            + frames.window_update(0, LARGE - 65_535)
            + frames.headers(1, block, 1 << 14, end_stream=False)
        )
        self.stream = next(event.stream for event in began if isinstance(event, RequestBegan))

    def tell(self, data: bytes) -> list[Event]:
        return self.connection.receive(data, 0.0)

    def flush(self) -> None:
        self.written += FrameReader(1 << 20).feed(b"".join(self.connection.take_written()))

    def call(self, timeout: float | None = None) -> Call:
        return Call(self, self.stream, Invocation("/a.B/C", (), timeout), Limits())

    def body(self, call: Call, data: bytes) -> None:
        for event in self.tell(frames.head(codes.DATA, 0, 1, len(data)) + data):
            assert isinstance(event, BodyArrived)
            call.arrived(event.data, ended=event.ended)


async def turns_during(work: Awaitable[object]) -> int:
    """Do the work, and count the turns that others had meanwhile."""
    turns = 0
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    turn()
    await work
    return turns


async def repeated(what: Callable[[], Awaitable[object]]) -> None:
    for _ in range(10_000):
        await what()


async def test_a_handler_that_writes_what_leaves_at_once_lets_others_have_their_turn():
    line = Line(LARGE)
    call = line.call()

    assert await turns_during(repeated(lambda: call.send(b"x"))) > 50


async def test_a_handler_that_reads_what_is_there_lets_others_have_their_turn():
    line = Line(LARGE)
    call = line.call()
    line.body(call, (b"\0" + (1).to_bytes(4) + b"x") * 10_000)

    assert await turns_during(repeated(call.receive)) > 50


async def test_past_its_deadline_nothing_is_kept_of_what_the_peer_does_not_take():
    line = Line(window=10)
    call = line.call(timeout=0.01)
    with pytest.raises(grpc.aio.InternalError):
        await call.send(bytes(1 << 20))
    line.flush()

    assert (codes.RST_STREAM, codes.ErrorCode.CANCEL) in [
        (frame.kind, int.from_bytes(frame.payload)) for frame in line.written if frame.kind == codes.RST_STREAM
    ]
    assert not line.stream.outbox
    assert line.connection.idle
    assert call.lost


async def test_past_its_deadline_a_call_without_anything_that_waits_ends_with_a_status():
    line = Line(window=10)
    call = line.call(timeout=0.01)
    assert await call.receive() is None
    line.flush()

    last = [frame for frame in line.written if frame.kind == codes.HEADERS][-1]
    assert ("grpc-status", "4") in [(str(name), str(value)) for name, value in hpack.Decoder().decode(last.payload)]

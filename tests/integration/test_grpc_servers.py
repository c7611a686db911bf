"""Both gRPC servers behave the same to grpcio's clients, on both event loops; and ours never stalls."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

from controlplane.transport.server import Server
from tests.fakes.waiting import eventually

OPTIONS = [
    ("grpc.max_receive_message_length", 3 << 20),
    ("grpc.max_send_message_length", 3 << 20),
    ("grpc.max_metadata_size", 8192),
]
SERVERS: dict[str, Callable[..., grpc.aio.Server]] = {
    "grpcio": lambda interceptors=(): grpc.aio.server(interceptors=interceptors, options=OPTIONS),
    "native": lambda interceptors=(): Server(interceptors, OPTIONS),
}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Bytes = grpc.aio.ServicerContext[bytes, bytes]


class Notes(grpc.aio.ServerInterceptor):
    """Writes down what passes, with its name."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.notes.append(f"{self.name} {details.method} {dict(details.invocation_metadata).get('x-who')}")
        return await continuation(details)


class Handlers:
    """One of every kind, and what became of them."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.started = asyncio.Event()

    async def echo(self, request: bytes, context: Bytes) -> bytes:
        context.add_done_callback(lambda done: self.ended.append(f"done {done.code()}"))
        await context.send_initial_metadata((("x-begin", "b"), ("x-bin", b"\0\xff")))
        context.set_trailing_metadata((("x-end", "e"),))
        return request

    async def abort(self, request: bytes, context: Bytes) -> bytes:
        try:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nichts da: 100 % ä", (("why-bin", request),))
        finally:
            self.ended.append(f"aborted {context.code()} {context.done()}")

    async def coded(self, request: bytes, context: Bytes) -> bytes:
        context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
        context.set_details("not now")
        return request

    async def broken(self, request: bytes, context: Bytes) -> bytes:
        raise ValueError("a bug")

    async def sleeping(self, request: bytes, context: Bytes) -> bytes:
        self.started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return request

    async def left(self, request: bytes, context: Bytes) -> bytes:
        left = context.time_remaining()
        return b"none" if left is None else b"some" if 0 < left <= 21 else b"wrong"

    async def count(self, request: bytes, context: Bytes) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def total(self, requests: AsyncIterator[bytes], context: Bytes) -> bytes:
        return b"%d" % sum([len(request) async for request in requests])

    async def both(self, requests: object, context: Bytes) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)
        self.ended.append("end of requests")

    async def flood(self, request: bytes, context: Bytes) -> None:
        self.started.set()
        try:
            while True:
                await context.write(bytes(100_000))
        finally:
            self.ended.append("flood over")

    def generic(self) -> grpc.GenericRpcHandler:
        unary, streams = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        kinds: dict[str, Any] = {
            name: unary(getattr(self, name)) for name in ("echo", "abort", "coded", "broken", "sleeping", "left")
        }
        kinds |= {name: grpc.unary_stream_rpc_method_handler(getattr(self, name)) for name in ("count", "flood")}
        kinds |= {"total": grpc.stream_unary_rpc_method_handler(self.total), "both": streams(self.both)}
        return grpc.method_handlers_generic_handler("t.T", kinds)


class Set:
    """A server, its handlers, and a channel to it."""

    def __init__(self, kind: str, place: Path) -> None:
        self.notes: list[str] = []
        self.handlers = Handlers()
        self.server = SERVERS[kind]((Notes("outer", self.notes), Notes("inner", self.notes)))
        self.server.add_generic_rpc_handlers((self.handlers.generic(),))
        self.address = f"unix:{place / 's.sock'}"
        self.server.add_insecure_port(self.address)
        self.channel = grpc.aio.insecure_channel(self.address, options=[("grpc.max_receive_message_length", 8 << 20)])

    def unary(self, name: str) -> Any:
        return self.channel.unary_unary(f"/t.T/{name}")

    async def refusal(self, call: Awaitable[object]) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        return refused.value


@pytest.fixture(params=[(kind, loop) for kind in SERVERS for loop in LOOPS], ids="-".join)
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Callable[[Set], Awaitable[None]]], None]:
    kind, loop = request.param

    def play(story: Callable[[Set], Awaitable[None]]) -> None:
        async def told() -> None:
            there = Set(kind, tmp_path_factory.mktemp("s"))
            await there.server.start()
            async with asyncio.timeout(30):
                try:
                    await story(there)
                finally:
                    await there.channel.close()
                    await there.server.stop(None)

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(told())

    return play


Play = Callable[[Callable[[Set], Awaitable[None]]], None]


def test_a_unary_call_has_its_metadata_both_ways(played: Play):
    async def story(there: Set) -> None:
        call = there.unary("echo")(b"hello", metadata=(("x-who", "me"),))
        assert await call == b"hello"
        assert dict(await call.initial_metadata()) == {"x-begin": "b", "x-bin": b"\0\xff"}
        assert dict(await call.trailing_metadata()) == {"x-end": "e"}
        assert await call.code() is grpc.StatusCode.OK
        assert there.notes == ["outer /t.T/echo me", "inner /t.T/echo me"]
        await eventually(lambda: there.handlers.ended == ["done None"], 5)

    played(story)


@pytest.mark.parametrize("size", [0, 1, 16_379, 65_531, 300_000, (3 << 20) - 5])
def test_messages_of_every_size_pass_both_ways(played: Play, size: int):
    async def story(there: Set) -> None:
        assert await there.unary("echo")(bytes(size)) == bytes(size)
        call = there.channel.stream_stream("/t.T/both")()
        for _ in range(3):
            await call.write(bytes(size))
            assert await call.read() == bytes(size)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert there.handlers.ended[-1] == "end of requests"

    played(story)


def test_all_four_kinds_of_calls_are_served(played: Play):
    async def requests() -> AsyncIterator[bytes]:
        for size in (10, 20, 30):
            yield bytes(size)

    async def story(there: Set) -> None:
        assert [answer async for answer in there.channel.unary_stream("/t.T/count")(b"500")] == [b"%d" % n for n in range(500)]
        assert await there.channel.stream_unary("/t.T/total")(requests()) == b"60"
        assert [len(answer) async for answer in there.channel.stream_stream("/t.T/both")(requests())] == [10, 20, 30]

    played(story)


def test_a_status_arrives_with_its_words_and_metadata(played: Play):
    async def story(there: Set) -> None:
        refused = await there.refusal(there.unary("abort")(b"\0why"))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.NOT_FOUND, "nichts da: 100 % ä")
        assert dict(refused.trailing_metadata()) == {"why-bin": b"\0why"}
        await eventually(lambda: there.handlers.ended == ["aborted StatusCode.NOT_FOUND True"], 5)
        refused = await there.refusal(there.unary("coded")(b""))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not now")
        refused = await there.refusal(there.unary("broken")(b""))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.UNKNOWN, "Unexpected <class 'ValueError'>: a bug")
        refused = await there.refusal(there.unary("nothing")(b""))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    played(story)


def test_what_is_too_large_is_refused(played: Play):
    async def story(there: Set) -> None:
        refused = await there.refusal(there.unary("echo")(bytes(4 << 20)))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in str(refused.details())
        refused = await there.refusal(there.unary("echo")(b"", metadata=(("x-long", "v" * 20_000),)))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await there.unary("echo")(b"still there") == b"still there"

    played(story)


def test_a_deadline_ends_the_call_on_both_sides(played: Play):
    async def story(there: Set) -> None:
        refused = await there.refusal(there.unary("sleeping")(b"", timeout=0.2))
        assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: there.handlers.ended == ["cancelled"], 5)
        assert await there.unary("left")(b"") == b"none"
        assert await there.unary("left")(b"", timeout=20) == b"some"

    played(story)


def test_a_call_that_its_caller_gives_up_is_cancelled(played: Play):
    async def story(there: Set) -> None:
        call = there.unary("sleeping")(b"")
        await there.handlers.started.wait()
        call.cancel()
        await eventually(lambda: there.handlers.ended == ["cancelled"], 5)

    played(story)


def test_a_caller_that_goes_away_ends_its_calls(played: Play):
    async def story(there: Set) -> None:
        call = there.channel.unary_stream("/t.T/flood")(b"")
        assert len(await call.read()) == 100_000
        await there.channel.close()
        await eventually(lambda: there.handlers.ended == ["flood over"], 5)

    played(story)


def test_a_server_that_stops_lets_calls_end_and_then_ends_them(played: Play):
    async def story(there: Set) -> None:
        both = there.channel.stream_stream("/t.T/both")()
        await both.write(b"1")
        assert await both.read() == b"1"
        sleeping = asyncio.ensure_future(there.refusal(there.unary("sleeping")(b"")))
        await there.handlers.started.wait()
        stopping = asyncio.ensure_future(there.server.stop(0.5))
        await both.write(b"2")
        assert await both.read() == b"2"
        await both.done_writing()
        assert await both.read() is grpc.aio.EOF
        await stopping
        assert (await sleeping).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert there.handlers.ended == ["end of requests", "cancelled"]
        assert not await there.server.wait_for_termination(1)

    played(story)


def test_an_address_that_is_taken_is_refused(played: Play):
    async def story(there: Set) -> None:
        with pytest.raises(RuntimeError):
            Server((), OPTIONS).add_insecure_port("unix:/nowhere/at/all.sock")
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken, pytest.raises(RuntimeError):
            Server((), OPTIONS).add_insecure_port(f"127.0.0.1:{taken.getsockname()[1]}")

    played(story)


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_stalls_with_many_clients_small_windows_and_streams_given_up(loop: str, tmp_path: Path):
    """The prototype of this server stalled with eight clients: credit of data that nobody reads, a resumed write that is lost."""

    async def client(address: str, number: int) -> int:
        options = [
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 16_384),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            given_up = channel.unary_stream("/t.T/flood")(b"")  # data that never gets read
            await given_up.read()
            call = channel.stream_stream("/t.T/both")()
            sizes = [(number * 37 + step * 7919) % 50_000 for step in range(40)]

            async def push() -> None:
                for size in sizes:
                    await call.write(bytes(size))
                await call.done_writing()

            pushing = asyncio.ensure_future(push())
            received = [len(answer) async for answer in call]
            await pushing
            given_up.cancel()
            assert received == sizes
            return len(received)

    async def story() -> None:
        server, handlers = Server((), OPTIONS), Handlers()
        server.add_generic_rpc_handlers((handlers.generic(),))
        address = f"unix:{tmp_path / 's.sock'}"
        server.add_insecure_port(address)
        await server.start()
        async with asyncio.timeout(50):
            assert await asyncio.gather(*[client(address, number) for number in range(64)]) == [40] * 64
            await eventually(lambda: handlers.ended.count("flood over") == 64, 5)
        await server.stop(1)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(story())


@pytest.mark.parametrize("played", [("native", loop) for loop in LOOPS], ids="-".join, indirect=True)
def test_a_read_that_was_given_up_does_not_cost_the_next_one_its_message(played: Play):
    async def impatient(requests: object, context: Bytes) -> None:
        first = asyncio.ensure_future(context.read())
        await asyncio.sleep(0)
        await context.write(b"reading")
        first.cancel()
        await context.write(bytes(await context.read()))  # begins before the first one knows that it was given up

    async def story(there: Set) -> None:
        handler = grpc.stream_stream_rpc_method_handler(impatient)
        there.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.I", {"impatient": handler}),))
        call = there.channel.stream_stream("/t.I/impatient")()
        assert await call.read() == b"reading"
        await call.write(b"message")
        await call.done_writing()
        assert await call.read() == b"message"

    played(story)


def test_a_reader_beside_the_handler_learns_that_the_caller_is_gone(played: Play):
    ended: list[object] = []

    async def beside(requests: object, context: Bytes) -> None:
        async def read() -> None:
            ended.append(await context.read())

        reading = asyncio.ensure_future(read())
        await context.write(b"begun")
        try:
            await asyncio.sleep(60)
        finally:
            await reading

    async def story(there: Set) -> None:
        handler = grpc.stream_stream_rpc_method_handler(beside)
        there.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.B", {"beside": handler}),))
        call = there.channel.stream_stream("/t.B/beside")()
        assert await call.read() == b"begun"
        call.cancel()
        await eventually(lambda: ended == [grpc.aio.EOF], 5)

    played(story)


@pytest.mark.parametrize("seconds", [1e-9, 3e8])
def test_deadlines_of_any_length_are_kept(played: Play, seconds: float):
    async def story(there: Set) -> None:
        if seconds < 1:
            refused = await there.refusal(there.unary("sleeping")(b"", timeout=seconds))
            assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        else:
            assert await there.unary("echo")(b"x", timeout=seconds) == b"x"

    played(story)


def test_a_status_in_full_arrives_in_full(played: Play):
    why = status_pb2.Status(code=9, message="not now", details=[any_pb2.Any(type_url="x/y", value=b"\0\1")])

    async def refuse(request: bytes, context: Bytes) -> bytes:
        await context.abort_with_status(rpc_status.to_status(why))
        return request

    async def story(there: Set) -> None:
        handler = grpc.unary_unary_rpc_method_handler(refuse)
        there.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", {"refuse": handler}),))
        refused = await there.refusal(there.channel.unary_unary("/t.S/refuse")(b""))
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert dict(refused.trailing_metadata())["grpc-status-details-bin"] == why.SerializeToString()

    played(story)


@pytest.mark.parametrize("played", [("native", loop) for loop in LOOPS], ids="-".join, indirect=True)
def test_a_handler_that_will_not_end_is_named_and_left_behind(played: Play, caplog: pytest.LogCaptureFixture):
    async def stubborn(request: bytes, context: Bytes) -> bytes:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()
        return request

    async def story(there: Set) -> None:
        handler = grpc.unary_unary_rpc_method_handler(stubborn)
        there.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.N", {"stubborn": handler}),))
        calling = asyncio.ensure_future(there.refusal(there.channel.unary_unary("/t.N/stubborn")(b"")))
        await eventually(lambda: bool(there.notes), 5)
        await there.server.stop(None)
        assert (await calling).code() is grpc.StatusCode.UNAVAILABLE
        assert [(record.message, record.__dict__["calls"]) for record in caplog.records] == [
            ("calls do not end", ["call /t.N/stubborn"])
        ]
        released.set()

    released = asyncio.Event()
    played(story)


@pytest.mark.parametrize("played", [("native", loop) for loop in LOOPS], ids="-".join, indirect=True)
def test_the_socket_of_a_successor_stays(played: Play):
    async def story(there: Set) -> None:
        path = Path(there.address.removeprefix("unix:"))
        assert path.is_socket()
        path.unlink()
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as successor:
            successor.bind(str(path))
            await there.server.stop(None)
            assert path.is_socket()

    played(story)


def test_a_server_that_stopped_leaves_no_socket_behind(played: Play):
    async def story(there: Set) -> None:
        await there.server.stop(None)
        assert not Path(there.address.removeprefix("unix:")).exists()

    played(story)

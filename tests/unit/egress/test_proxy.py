"""The proxy of an agent: what it lets through, what it refuses, and what it tells. Hosts are servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_sidecar.egress.door import Decision
from agent_sidecar.egress.limits import EgressLimits
from agent_sidecar.egress.proxy import proxy
from claude_conductor.egress import rules

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SECONDS = 5.0


@dataclass
class World:
    """A proxy, what it decided, and which names were looked up."""

    path: Path
    decisions: list[Decision] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    opened: list[asyncio.StreamWriter] = field(default_factory=list)

    async def visit(self) -> Stream:
        stream = await asyncio.open_unix_connection(str(self.path))
        self.opened.append(stream[1])
        return stream

    async def ask(self, text: bytes) -> tuple[bytes, Stream]:
        """Send a request; return the head of the answer."""
        reader, writer = await self.visit()
        writer.write(text)
        async with asyncio.timeout(SECONDS):
            return await reader.readuntil(b"\r\n\r\n"), (reader, writer)

    async def refused(self, text: bytes) -> str:
        """Send a request; return the whole answer of a proxy that closes afterwards."""
        head, (reader, _) = await self.ask(text)
        async with asyncio.timeout(SECONDS):
            body = await reader.read()
        return (head + body).decode()


@pytest.fixture(autouse=True)
def _no_mistakes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelname == "ERROR"] == []


@contextlib.asynccontextmanager
async def world(
    tmp_path_factory: pytest.TempPathFactory,
    *allow: str,
    limits: EgressLimits | None = None,
    names: dict[str, Sequence[str]] | None = None,
) -> AsyncIterator[World]:
    made = World(tmp_path_factory.mktemp("e") / "egress.sock")

    async def look_up(host: str, port: int) -> Sequence[str]:
        del port
        made.looked_up.append(host)
        if host not in (names or {}):
            raise OSError(None, "no such host")
        return (names or {})[host]

    opened = proxy(rules(allow), made.decisions.append, limits or EgressLimits(), look_up)
    await opened.open(made.path)
    try:
        yield made
    finally:
        await opened.close()
        for writer in made.opened:
            writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def host(served: Served) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await served(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every piece in capitals, and end when the other side does."""
    while data := await reader.read(1 << 16):
        writer.write(data.upper())
        await writer.drain()
    writer.write(b"end")
    writer.close()


LOCAL = {"mirror.example": ("127.0.0.1",)}


async def test_a_tunnel_carries_bytes_both_ways_and_its_ends_one_by_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with host(shout) as port, world(tmp_path_factory, f"internal:mirror.example:{port}", names=LOCAL) as there:
        head, (reader, writer) = await there.ask(f"CONNECT MIRROR.example.:{port} HTTP/1.1\r\nHost: x\r\n\r\nahead".encode())
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(5) == b"AHEAD"
        large = b"x" * (1 << 20)
        writer.write(large)
        writer.write_eof()
        assert await reader.read(1) + await reader.read() == b"X" * (1 << 20) + b"end"
        assert there.decisions == [Decision("mirror.example", port, f"internal:mirror.example:{port}")]


@pytest.mark.parametrize(
    "written",
    [
        *("evil.example:443", "mirror.example:80", "sub.mirror.example:443", "127.0.0.1:443", "[::1]:443", "169.254.169.254:80"),
        *("localhost:443", "mirror.example.evil.example:443"),
    ],
)
async def test_what_is_not_on_the_list_is_refused_and_not_even_looked_up(
    tmp_path_factory: pytest.TempPathFactory, written: str
) -> None:
    async with world(tmp_path_factory, "mirror.example", names=LOCAL) as there:
        answer = await there.refused(f"CONNECT {written} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith("HTTP/1.1 403 ")
        assert f"--allow {written}" in answer
        assert there.looked_up == []
        assert [(each.rule, each.reason) for each in there.decisions] == [("", "it is not on the list of hosts")]


@pytest.mark.parametrize(
    "line",
    [
        *("CONNECT mirror.example\x01.evil.example:443", "CONNECT mirror.example:443@evil.example:443", "CONNECT 0x7f.1:443"),
        *(
            "CONNECT mirror.example",
            "CONNECT mirror.example:0443x",
            "CONNECT 2130706433:443",
            "GET /",
            "GET https://mirror.example/",
        ),
        *("GET http://mirror.example@evil.example/", "GET http://[::1/", "GET ftp://mirror.example/", "OPTIONS *"),
    ],
)
async def test_what_is_no_request_to_a_proxy_is_refused(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    async with world(tmp_path_factory, "mirror.example", "mirror.example:80", names=LOCAL) as there:
        answer = await there.refused(f"{line} HTTP/1.1\r\nHost: mirror.example\r\n\r\n".encode())
        assert answer.startswith("HTTP/1.1 400 ")
        assert there.looked_up == []


async def test_an_allowed_name_that_leads_inside_is_refused_and_says_how_it_would_be_allowed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    names = {"mirror.example": ("127.0.0.1", "169.254.169.254", "10.0.0.1")}
    async with world(tmp_path_factory, "mirror.example", names=names) as there:
        answer = await there.refused(b"CONNECT mirror.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith("HTTP/1.1 403 ")
        assert "internal:mirror.example:443" in answer
        assert there.decisions[0].reason


async def test_an_address_that_does_not_answer_gives_way_to_the_next(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with host(shout) as port:
        names = {"mirror.example": ("127.0.0.9", "127.0.0.1")}
        async with world(tmp_path_factory, f"internal:mirror.example:{port}", names=names) as there:
            head, _ = await there.ask(f"CONNECT mirror.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_host_that_is_not_there_is_a_bad_gateway(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with world(tmp_path_factory, "gone.example", "internal:mirror.example:1", names=LOCAL) as there:
        for name, port in (("gone.example", 443), ("mirror.example", 1)):
            answer = await there.refused(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert answer.startswith("HTTP/1.1 502 ")
        assert all(each.rule and each.reason for each in there.decisions)


async def test_a_plain_request_is_carried_under_the_name_that_was_decided_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        seen.append(await reader.readexactly(4))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nKeep-Alive: 1\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with host(serve) as port, world(tmp_path_factory, f"internal:mirror.example:{port}", names=LOCAL) as there:
        answer = await there.refused(
            f"POST http://Mirror.example:{port}/a%20b?c=d HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: secret\r\n"
            "Connection: x-mine\r\nX-Mine: 1\r\nX-Kept: 1\r\nContent-Length: 4\r\n\r\nbody".encode()
        )
        head = seen[0].decode().lower()
        assert head.startswith("post /a%20b?c=d http/1.1\r\n")
        assert f"host: mirror.example:{port}\r\n" in head
        assert "evil.example" not in head
        assert "secret" not in head
        assert "x-mine" not in head
        assert "x-kept: 1" in head
        assert seen[1] == b"body"
        assert answer.startswith("HTTP/1.1 302 ")
        assert "keep-alive" not in answer.lower()
        assert answer.endswith("ok")
        redirected = await there.refused(b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert redirected.startswith("HTTP/1.1 403 ")


async def test_a_host_that_breaks_off_is_a_bad_gateway(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with host(serve) as port, world(tmp_path_factory, f"internal:mirror.example:{port}", names=LOCAL) as there:
        answer = await there.refused(f"GET http://mirror.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith("HTTP/1.1 502 ")


async def test_a_silent_tunnel_and_a_silent_agent_are_closed(tmp_path_factory: pytest.TempPathFactory) -> None:
    limits = EgressLimits(idle_seconds=0.05, request_seconds=0.05)
    async with (
        host(shout) as port,
        world(tmp_path_factory, f"internal:mirror.example:{port}", limits=limits, names=LOCAL) as there,
    ):
        _, (reader, _writer) = await there.ask(f"CONNECT mirror.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        silent, _silent_writer = await there.visit()
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""
            assert await silent.read() == b""


async def test_more_connections_than_allowed_are_cut_off_and_the_others_go_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    limits = EgressLimits(connections=2)
    async with (
        host(shout) as port,
        world(tmp_path_factory, f"internal:mirror.example:{port}", limits=limits, names=LOCAL) as there,
    ):
        ask = f"CONNECT mirror.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        kept = [await there.ask(ask) for _ in range(2)]
        reader, _writer = await there.visit()
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        kept[0][1][1].write(b"a")
        assert await kept[0][1][0].readexactly(1) == b"A"


async def test_a_host_that_is_not_read_from_is_not_buffered_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        del reader
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1.0):
                while sent < 64 << 20:
                    writer.write(bytes(1 << 16))
                    await writer.drain()
                    sent += 1 << 16

    async with host(flood) as port, world(tmp_path_factory, f"internal:mirror.example:{port}", names=LOCAL) as there:
        await there.ask(f"CONNECT mirror.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(SECONDS):
            while True:
                before = sent
                await asyncio.sleep(0.2)
                if sent == before:
                    break
        assert 0 < sent < 16 << 20  # what the kernel's buffers hold, and a little of ours

"""An agent's side of an HTTP connection over a Unix socket, with its own h11, for tests of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """False where the connection ended inside it."""

    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


class HttpAgent:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.wire = h11.Connection(h11.CLIENT)

    async def send(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> None:
        length = [("content-length", str(len(body)))] if method == "POST" and not dict(headers).get("transfer-encoding") else []
        request = h11.Request(method=method, target=target, headers=[("host", "127.0.0.1"), *length, *headers])
        self.write(request)
        if body:
            self.write(h11.Data(data=body))
        self.write(h11.EndOfMessage())
        with contextlib.suppress(OSError):
            await self.writer.drain()

    def write(self, event: h11.Event) -> None:
        self.writer.write(self.wire.send(event) or b"")

    async def event(self) -> Any:
        async with asyncio.timeout(10):
            while (event := self.wire.next_event()) is h11.NEED_DATA:
                self.wire.receive_data(await self._reader.read(65536))
        return event

    async def answer(self) -> Answer:
        head = await self.event()
        while isinstance(head, h11.InformationalResponse):
            head = await self.event()
        assert isinstance(head, h11.Response), head
        body, whole = bytearray(), False
        with contextlib.suppress(h11.RemoteProtocolError, ConnectionError):
            while isinstance(piece := await self.event(), h11.Data):
                body += piece.data
            whole = isinstance(piece, h11.EndOfMessage)
        return Answer(head.status_code, {name.decode(): value.decode() for name, value in head.headers}, bytes(body), whole)

    async def ask(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> Answer:
        await self.send(method, target, headers, body)
        return await self.answer()


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[HttpAgent]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield HttpAgent(reader, writer)
    finally:
        writer.transport.abort()


async def ask(path: Path, method: str, target: str, headers: Headers = (), body: bytes = b"") -> Answer:
    """Ask once on a connection of its own."""
    async with connected(path) as agent:
        return await agent.ask(method, target, headers, body)

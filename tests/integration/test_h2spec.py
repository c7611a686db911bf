"""h2spec, a conformance suite of HTTP/2 by others, finds nothing. Skipped where it is not installed (CONTRIBUTING.md)."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from controlplane.transport.http2.connection import Connection
from controlplane.transport.http2.events import RequestBegan
from controlplane.transport.http2.header_block import encode
from controlplane.transport.http2.settings import Announced

BEGIN = encode([(":status", "200")])
END = encode([("x-end", "yes")])
LATER = 0.1
"""Seconds until an answer: h2spec looks at how many requests may be open at once, and at windows that are still closed."""


class Answering(asyncio.Protocol):
    """Answers every request with a body and trailers; h2spec wants to see DATA, and frames no larger than it sends."""

    def __init__(self) -> None:
        self.connection = Connection(Announced(max_frame_size=16_384))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.flush()

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for event in self.connection.receive(data, loop.time()):
            if isinstance(event, RequestBegan):
                loop.call_later(LATER, self.answer, event)
        self.flush()
        if self.connection.over:
            self.transport.close()

    def answer(self, asked: RequestBegan) -> None:
        if self.connection._streams.get(asked.stream.id) is asked.stream:
            self.connection.send_headers(asked.stream, BEGIN)
            self.connection.send_message(asked.stream, b"hello")
            self.connection.send_trailers(asked.stream, END)
            self.flush()

    def flush(self) -> None:
        self.transport.writelines(self.connection.take_written())


async def test_every_rule_that_h2spec_knows_is_kept() -> None:
    h2spec = shutil.which("h2spec")
    if h2spec is None:
        pytest.skip("no h2spec here")
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(50):
        run = await asyncio.create_subprocess_exec(h2spec, "-S", "-p", str(port), "-o", "2", stdout=asyncio.subprocess.PIPE)
        said, _ = await run.communicate()
    assert run.returncode == 0, said.decode()[-5000:]
    assert b" 0 skipped, 0 failed" in said

"""A loopback TCP port that leads to a Unix socket, as the sandbox's bridge does; for tests outside a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path


@contextlib.asynccontextmanager
async def bridge(target: Path) -> AsyncIterator[int]:
    """Yield the port. One direction's end ends both."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(str(target))
            try:
                async with asyncio.TaskGroup() as both:
                    one = both.create_task(_copy(reader, inner_writer), name="bridge in")
                    other = both.create_task(_copy(inner_reader, writer), name="bridge out")
                    one.add_done_callback(lambda _: other.cancel())
                    other.add_done_callback(lambda _: one.cancel())
            finally:
                inner_writer.transport.abort()
        except asyncio.CancelledError:
            if not closing:
                raise
        finally:
            tasks.discard(task)
            writer.close()

    closing = False
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        closing = True
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

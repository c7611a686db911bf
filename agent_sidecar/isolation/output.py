"""The streams of a run: its output as it comes and its input, with the kernel's pipes as the only buffers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

CHUNK = 65536


class OutputStream:
    """Both output pipes of a run, read only when somebody asks: an agent that writes faster than it is read waits."""

    def __init__(self, stdout: int, stderr: int) -> None:
        self._open = {"stdout": stdout, "stderr": stderr}
        self._turn = ("stdout", "stderr")
        self.taken = False
        """Somebody iterates or has iterated."""
        for descriptor in self._open.values():
            os.set_blocking(descriptor, False)

    async def chunks(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (stream, up to 64 KiB) until both are closed by the last process that held them."""
        self.taken = True
        try:
            while self._open:
                chunk = self._read()
                if chunk is not None:
                    yield chunk
                elif self._open:
                    await _readable(tuple(self._open.values()))
        finally:
            self.close()

    def read_now(self, limit: int) -> bytes:
        """Return what both pipes hold at the moment, up to `limit` bytes."""
        found = b""
        while len(found) < limit and (chunk := self._read()) is not None:
            found += chunk[1]
        return found[:limit]

    def close(self) -> None:
        """Close the pipes; a writer that is left gets SIGPIPE."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _read(self) -> tuple[str, bytes] | None:
        for name in self._turn:
            if name not in self._open:
                continue
            try:
                data = os.read(self._open[name], CHUNK)
            except BlockingIOError:
                continue
            if data:
                self._turn = (self._turn[1], self._turn[0])
                return name, data
            os.close(self._open.pop(name))
        return None


async def write_all(descriptor: int, data: bytes) -> None:
    """Write to a pipe as its reader takes it, then close it. A reader that has gone ends it early without an error."""
    os.set_blocking(descriptor, False)
    left = memoryview(data)
    try:
        while left:
            try:
                left = left[os.write(descriptor, left[:CHUNK]) :]
            except BlockingIOError:
                await _writable(descriptor)
    except BrokenPipeError:
        return
    finally:
        os.close(descriptor)


async def _readable(descriptors: tuple[int, ...]) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    for descriptor in descriptors:
        loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        future.set_result(None)

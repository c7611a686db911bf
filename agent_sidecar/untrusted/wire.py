"""One HTTP/1.1 connection: h11 events over asyncio streams, each wait with a deadline, each failure as an error of ours."""

from __future__ import annotations

import asyncio

import h11

from claude_conductor.errors import ConductorError

_CHUNK = 64 * 1024
_HEAD_BYTES = 64 * 1024
"""Longest request or status line together with its headers."""


class Wire:
    """One end of a connection.

    Args:
        role: `h11.SERVER` towards the agent, `h11.CLIENT` towards the provider.
        reader: Its input.
        writer: Its output; closed by `close` or `abort`.
        lost: Raised when the other end is gone, or takes longer than allowed.
        malformed: Raised when the other end does not speak HTTP.
    """

    def __init__(
        self,
        role: type[h11.CLIENT | h11.SERVER],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        lost: type[ConductorError],
        malformed: type[ConductorError],
    ) -> None:
        self.state = h11.Connection(role, max_incomplete_event_size=_HEAD_BYTES)
        self._reader = reader
        self._writer = writer
        self._lost = lost
        self._malformed = malformed

    async def receive(self, seconds: float) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """Return the next event, waiting at most this long for each piece of it."""
        while True:
            try:
                event = self.state.next_event()
            except h11.RemoteProtocolError as cause:
                raise self._malformed(f"The other end does not speak valid HTTP: {cause}.") from cause
            if event is not h11.NEED_DATA:
                return event
            self.state.receive_data(await self._read(seconds))

    async def send(self, event: h11.Event, seconds: float) -> None:
        """Send an event at once; waits while the other end does not read, at most this long."""
        try:
            data = self.state.send(event)
        except h11.LocalProtocolError as cause:
            raise self._malformed(f"The other end does not speak valid HTTP: {cause}.") from cause
        if not data:
            return
        try:
            self._writer.write(data)
            async with asyncio.timeout(seconds):
                await self._writer.drain()
        except (OSError, TimeoutError) as cause:
            raise self._lost from cause

    async def watch(self) -> None:
        """Raise when the other end closes; return when much of a next request has arrived. Meant to be cancelled."""
        ahead = 0
        while ahead < _CHUNK:
            data = await self._read(None)
            if not data:
                raise self._lost
            ahead += len(data)
            self.state.receive_data(data)

    async def _read(self, seconds: float | None) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self._reader.read(_CHUNK)
        except (OSError, TimeoutError) as cause:
            raise self._lost from cause

    def bare(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        """Return the connection itself and what was read of it ahead: after CONNECT it speaks no HTTP any more."""
        return self._reader, self._writer, self.state.trailing_data[0]

    async def close(self, seconds: float) -> None:
        """Send what is left and close."""
        try:
            async with asyncio.timeout(seconds):
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

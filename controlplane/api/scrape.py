"""How does Prometheus read the numbers? HTTP/1.1 on loopback: one path, nothing else, nothing that a caller can change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

import h11

from claude_conductor.errors import HomeUnusableError

_log = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
PATH = b"/metrics"
_SECONDS = 10.0
"""A connection that says nothing for this long ends."""
_CONNECTIONS = 16


class Scrape:
    """Serves `GET /metrics`. Whoever may open a connection on this machine may read: there is nothing secret in it."""

    def __init__(self, text: Callable[[], bytes], content_type: str) -> None:
        """Serve nothing yet.

        Args:
            text: Returns the numbers of this moment; called in the event loop.
            content_type: Of that text.
        """
        self._text = text
        self._content_type = content_type
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[object]] = set()

    async def start(self, port: int) -> None:
        """Listen.

        Raises:
            HomeUnusableError: The port cannot be listened to.
        """
        try:
            self._server = await asyncio.start_server(self._serve, ADDRESS, port, limit=1 << 14)
        except OSError as cause:
            raise HomeUnusableError(
                "The port for metrics cannot be listened to.",
                next_step="set `telemetry.metrics_port` to a free port, or to 0 for none",
                port=port,
                cause=cause.strerror,
            ) from cause
        _log.info("serving metrics", extra={"address": f"http://{ADDRESS}:{port}/metrics"})

    async def run(self) -> None:
        """Serve until cancelled; then nothing is listened to and no connection is open."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self._server is not None:
                self._server.close()
            for call in tuple(self._calls):
                call.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        if len(self._calls) >= _CONNECTIONS:
            writer.close()
            return
        self._calls.add(call)
        try:
            async with asyncio.timeout(_SECONDS) as left:
                await self._answer_all(reader, writer, left)
        except (TimeoutError, OSError, h11.RemoteProtocolError) as error:
            _log.debug("a scrape ended early", extra={"cause": str(error)})
        finally:
            self._calls.discard(call)
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: asyncio.Timeout) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(1 << 14))
            elif isinstance(event, h11.Request):
                status, body = self._answer(event)
                headers = [("content-type", self._content_type), ("content-length", str(len(body)))]
                head = connection.send(h11.Response(status_code=status, headers=headers, reason=status.phrase.encode()))
                data = connection.send(h11.Data(body if event.method != b"HEAD" else b"")) or b""
                writer.write((head or b"") + data + (connection.send(h11.EndOfMessage()) or b""))
                await writer.drain()
            elif event is h11.PAUSED and connection.our_state is h11.DONE and connection.their_state is h11.DONE:
                connection.start_next_cycle()
                left.reschedule(asyncio.get_running_loop().time() + _SECONDS)
            elif isinstance(event, h11.ConnectionClosed) or connection.our_state in {h11.MUST_CLOSE, h11.CLOSED, h11.ERROR}:
                return

    def _answer(self, request: h11.Request) -> tuple[HTTPStatus, bytes]:
        if request.method not in {b"GET", b"HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n"
        if request.target.partition(b"?")[0] != PATH:
            return HTTPStatus.NOT_FOUND, b"see /metrics\n"
        return HTTPStatus.OK, self._text()

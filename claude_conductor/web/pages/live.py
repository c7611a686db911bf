"""How does an open page learn that something changed? One small event, at most two a second, however much happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from claude_conductor.v1.event_service_pb2 import WatchEventsRequest
from claude_conductor.web.methods import Method
from claude_conductor.web.pages.page import Pages

_log = logging.getLogger(__name__)
PAUSE: Final = 0.5
"""Seconds between two words to a page; what happens meanwhile is one change."""
QUIET: Final = 15.0


class _Changes:
    """What one page has not been told yet."""

    def __init__(self, items: AsyncGenerator[Any, None]) -> None:
        self._items = items
        self.latest = 0
        """Cursor of the last event; 0: none came."""
        self.news = asyncio.Event()
        self.ended = False

    async def read(self) -> None:
        """Read to the end, keeping nothing but the last place."""
        try:
            async with aclosing(self._items):
                async for item in self._items:
                    self.latest = item.event.cursor or item.gap.to
                    self.news.set()
        except grpc.aio.AioRpcError as error:
            _log.info("a page has lost the control plane", extra={"code": error.code().name})
        finally:
            self.ended = True
            self.news.set()


async def told(items: AsyncGenerator[Any, None]) -> AsyncGenerator[str, None]:
    """Write `changed` whenever events came, with the last one's cursor as id, and `lost` when there is no telling any more."""
    changes = _Changes(items)
    reading = asyncio.create_task(changes.read(), name="live")
    try:
        yield "retry: 2000\nevent: open\ndata: {}\n\n"
        while not changes.ended:
            try:
                async with asyncio.timeout(QUIET):
                    await changes.news.wait()
            except TimeoutError:
                yield ": still here\n\n"
                continue
            changes.news.clear()
            if changes.latest:
                yield f"id: {changes.latest}\nevent: changed\ndata: {{}}\n\n"
                await asyncio.sleep(PAUSE)
        yield "event: lost\ndata: {}\n\n"
    finally:
        reading.cancel()
        await asyncio.wait({reading})


class Live:
    """Serves `/live` to pages."""

    def __init__(self, pages: Pages, method: Method) -> None:
        self._pages = pages
        self._method = method

    def routes(self) -> list[Route]:
        """Return what is served."""
        return [Route("/live", self._serve, methods=["GET"])]

    async def _serve(self, request: Request) -> Response:
        login = self._pages.logins.of(request)
        if login is None:
            return PlainTextResponse("Log in first.\n", 401)
        wanted, last = (
            WatchEventsRequest(task_id=request.query_params.get("task", "")[:200]),
            request.headers.get("last-event-id", ""),
        )
        if last.isdecimal() and len(last) < 20:
            wanted.after_cursor = int(last)
        stream = told(self._pages.forwarding.stream(self._method, wanted, login.token))
        return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

"""How are dashboard and API put together? The only place of the web part that knows every part."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from claude_conductor.rpc.channel import Tls
from claude_conductor.web.api import Api
from claude_conductor.web.forwarding import Forwarding
from claude_conductor.web.guard import Guard
from claude_conductor.web.logins import Logins
from claude_conductor.web.methods import methods
from claude_conductor.web.pages.entry import Entry
from claude_conductor.web.pages.fleet import Fleet
from claude_conductor.web.pages.live import Live
from claude_conductor.web.pages.mail import MailPages
from claude_conductor.web.pages.page import Pages
from claude_conductor.web.pages.tasks import TaskPages
from claude_conductor.web.pages.usage import UsagePage


def _routes(forwarding: Forwarding, logins: Logins) -> list[BaseRoute]:
    pages = Pages(forwarding, logins)
    parts = (Entry(pages), Fleet(pages), TaskPages(pages), MailPages(pages), UsagePage(pages))
    watching = Live(pages, methods()["EventService/WatchEvents"])
    return [
        *Api(forwarding, logins).routes(),
        *watching.routes(),
        *(route for part in parts for route in part.routes()),
        Mount("/static", StaticFiles(packages=[("claude_conductor.web", "static")])),
    ]


def build(address: str, logins: Logins, tls: Tls | None = None) -> Starlette:
    """Return the ASGI application.

    Args:
        address: gRPC address of the control plane.
        logins: Of browsers; whoever starts the server may make a code with it.
        tls: Whom to trust where the address is on a network.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        forwarding = app.state.forwarding = Forwarding(address, tls)
        app.router.routes.extend(_routes(forwarding, logins))
        try:
            yield
        finally:
            await forwarding.close()

    return Starlette(lifespan=lifespan, middleware=[Middleware(Guard)])

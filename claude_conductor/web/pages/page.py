"""What do all pages share? Who looks, whom they ask, how they are written, and what a failure looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from claude_conductor.client.agents import Agents
from claude_conductor.client.call import Caller
from claude_conductor.client.conductor import Admin
from claude_conductor.client.messages import Messages
from claude_conductor.client.tasks import Tasks
from claude_conductor.errors import ConductorError, Kind, PermissionDeniedError
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import task_pb2
from claude_conductor.web import refusals, words
from claude_conductor.web.api import BadRequestError, body
from claude_conductor.web.forwarding import Forwarding, sent
from claude_conductor.web.logins import Login, Logins

LARGEST_FORM: Final = 1 << 20
_MOST_ASKING: Final = 100


@dataclass(frozen=True, slots=True)
class Desk:
    """Somebody who is logged in, and what they ask with their own token."""

    login: Login
    tasks: Tasks
    agents: Agents
    messages: Messages
    admin: Admin

    async def asking(self) -> list[task_pb2.Task]:
        """Return the tasks that wait for a human, newest first."""
        return await self.tasks.list(states=[task_pb2.TASK_STATE_WAITING_FOR_HUMAN], limit=_MOST_ASKING)


class Form:
    """What a form sent, each field once."""

    def __init__(self, data: bytes) -> None:
        self._fields = parse_qs(data.decode(errors="replace"), keep_blank_values=True, max_num_fields=2000)

    def get(self, name: str) -> str:
        """Return a field without the blanks around it; empty if there is none."""
        return self._fields.get(name, [""])[-1].strip()

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return self._fields.get(name, [])


Show = Callable[[Request, Desk], Awaitable[Response]]
Act = Callable[[Request, Desk, Form], Awaitable[Response]]


class Pages:
    """Writes pages, and calls what makes them only for those who are logged in."""

    def __init__(self, forwarding: Forwarding, logins: Logins) -> None:
        self.forwarding = forwarding
        self.logins = logins
        self._templates = Environment(
            loader=PackageLoader("claude_conductor.web"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(words.FILTERS)

    def write(self, request: Request, template: str, facts: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        """Return a page."""
        login = self.logins.of(request)
        shared = {"path": request.url.path, "query": dict(request.query_params), "csrf": login.csrf if login else "", "asking": 0}
        return HTMLResponse(self._templates.get_template(template).render({**shared, **facts}), status)

    def show(self, path: str, make: Show) -> Route:
        """Return the route of a page."""

        async def endpoint(request: Request) -> Response:
            login = self.logins.of(request)
            if login is None:
                where = quote(str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""))
                return RedirectResponse(f"/login?next={where}", 303)
            try:
                return await make(request, self._desk(login))
            except ConductorError as error:
                return self._failed(request, error)

        return Route(path, endpoint, methods=["GET"])

    def act(self, path: str, do: Act) -> Route:
        """Return the route of a form; it is refused unless it comes from a page of this login."""

        async def endpoint(request: Request) -> Response:
            login = self.logins.of(request)
            if login is None:
                return RedirectResponse("/login", 303)
            try:
                form = Form(await body(request, LARGEST_FORM))
                if not login.fits(form.get("csrf")):
                    raise PermissionDeniedError(
                        "This form is not of this login.", next_step="open the page again, and send it from there"
                    )
                return await do(request, self._desk(login), form)
            except BadRequestError as bad:
                return self._failed(request, bad.error, bad.http)
            except ConductorError as error:
                return self._failed(request, error)

        return Route(path, endpoint, methods=["POST"])

    def _desk(self, login: Login) -> Desk:
        caller = Caller(self.forwarding.address, Secret(sent(login.token)), self.forwarding.channel)
        return Desk(login, Tasks(caller), Agents(caller), Messages(caller), Admin(caller))

    def _failed(self, request: Request, error: ConductorError, http: int = 0) -> Response:
        if error.kind is Kind.UNAUTHENTICATED:  # the token is no longer one
            gone = RedirectResponse("/login?ended=1", 303)
            self.logins.end(request, gone)
            return gone
        facts = {"error": error, "again": request.method == "GET"}  # loading the answer to a form anew would be another request
        return self.write(request, "failed.html", facts, http or refusals.http_of(error))


def back(path: str) -> Response:
    """Return to a page after a form was done."""
    return RedirectResponse(path, 303)

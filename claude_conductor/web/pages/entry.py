"""Who may come in? Whoever shows a token that the control plane knows, typed or by the address `conductor dashboard` printed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from claude_conductor.client.call import Caller
from claude_conductor.client.conductor import Admin
from claude_conductor.errors import ConductorError, Kind
from claude_conductor.settings.secret import Secret
from claude_conductor.web import refusals
from claude_conductor.web.api import BadRequestError, body
from claude_conductor.web.forwarding import sent
from claude_conductor.web.pages.page import Desk, Form, Pages, back

_LARGEST = 16 << 10


class Entry:
    """Login and logout."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return what is served."""
        return [
            Route("/login", self._ask, methods=["GET"]),
            Route("/login", self._login, methods=["POST"]),
            self._pages.act("/logout", self._logout),
        ]

    async def _ask(self, request: Request) -> Response:
        code, problem = request.query_params.get("code", ""), ""
        if code:
            token = self._pages.logins.redeem(code)
            if token is not None:
                return self._come_in(token, "/")
            problem = (
                "This address was used already, or is older than five minutes. Run `conductor dashboard` again, or give a token."
            )
        elif "ended" in request.query_params:
            problem = "The control plane does not know this login's token any more."
        return self._form(request, problem)

    async def _login(self, request: Request) -> Response:
        try:
            form = Form(await body(request, _LARGEST))
        except BadRequestError as bad:
            return self._form(request, "That is no token.", bad.http)
        token = sent(form.get("token"))
        caller = Caller(self._pages.forwarding.address, Secret(token), self._pages.forwarding.channel)
        try:
            await Admin(caller).status()
        except ConductorError as error:
            unknown = error.kind in {Kind.UNAUTHENTICATED, Kind.PERMISSION_DENIED}
            problem = "The control plane does not know this token." if unknown else f"{error.message} {error.next_step}."
            return self._form(request, problem, refusals.http_of(error))
        return self._come_in(token, form.get("next"))

    def _form(self, request: Request, problem: str, status: int = 200) -> Response:
        return self._pages.write(request, "login.html", {"problem": problem}, status)

    def _come_in(self, token: str, following: str) -> Response:
        # Only a path of ours: `//host` and `/\host` would be another site's.
        ours = following.startswith("/") and not following.startswith(("//", "/\\"))
        response = RedirectResponse(following if ours else "/", 303)
        self._pages.logins.begin(response, token)
        return response

    async def _logout(self, request: Request, desk: Desk, form: Form) -> Response:
        del desk, form
        response = back("/login")
        self._pages.logins.end(request, response)
        return response

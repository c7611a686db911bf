"""Who is a browser? A random cookie stands for the token of its login; the token itself never goes back to the browser."""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response

from claude_conductor.clock import Clock

COOKIE: Final = "conductor_login"
SECONDS: Final = 12 * 3600.0
"""A login ends after this long."""
CODE_SECONDS: Final = 300.0
MOST: Final = 1000
"""Logins at once; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Login:
    """A browser that has shown a token."""

    token: str = field(repr=False)
    until: float
    """Monotonic seconds."""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """Stands in every form of ours: another site's page does not know it."""

    def fits(self, word: str) -> bool:
        """Tell whether a request brought the word of this login's pages."""
        return hmac.compare_digest(self.csrf.encode(), word.encode())


class Logins:
    """Every login of this process; nothing is stored, so a restart ends all of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logins: OrderedDict[str, Login] = OrderedDict()
        self._codes: dict[str, Login] = {}

    def code(self, token: str) -> str:
        """Return a word that stands for the token once, within five minutes: for the address `conductor dashboard` prints."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = Login(token, self._clock.monotonic() + CODE_SECONDS)
        return code

    def redeem(self, code: str) -> str | None:
        """Return the token of a code, which is then used up; None if it is none or its time is over."""
        login = self._codes.pop(code, None)
        return login.token if login is not None and login.until > self._clock.monotonic() else None

    def begin(self, response: Response, token: str) -> None:
        """Log a browser in: the answer sets its cookie."""
        name = secrets.token_urlsafe(32)
        self._logins[name] = Login(token, self._clock.monotonic() + SECONDS)
        while len(self._logins) > MOST:
            self._logins.popitem(last=False)
        response.set_cookie(COOKIE, name, max_age=int(SECONDS), httponly=True, samesite="strict", path="/")

    def of(self, request: HTTPConnection) -> Login | None:
        """Return the login of a request; None if it has none, or that is over."""
        login = self._logins.get(request.cookies.get(COOKIE, ""))
        if login is not None and login.until <= self._clock.monotonic():
            del self._logins[request.cookies[COOKIE]]
            return None
        return login

    def end(self, request: HTTPConnection, response: Response) -> None:
        """Log a browser out."""
        self._logins.pop(request.cookies.get(COOKIE, ""), None)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")

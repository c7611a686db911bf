"""The web part on a free port of loopback, in a thread of the test, and a small HTTP client for it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from claude_conductor.clock import SystemClock
from claude_conductor.web.logins import Logins
from claude_conductor.web.serving import Server, listen

V1 = "/api/claude_conductor.v1."


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of a refusal."""
        return next(detail["reason"] for detail in self.json["error"]["details"] if "reason" in detail)


@dataclass
class Web:
    port: int
    logins: Logins
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def open(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Iterator[http.client.HTTPResponse]:
        sent = {"authorization": f"Bearer {self.token}"} if self.token else {}
        sent |= self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with closing(connection):
            connection.request(method, path, body, {name: value.encode() for name, value in sent.items() if value})
            with connection.getresponse() as answer:
                yield answer

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        with self.open(method, path, body, **headers) as answer:
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def call(self, name: str, request: object = None, **headers: str) -> Answer:
        """Call `Service/Method` with a message as JSON."""
        return self.send("POST", V1 + name, json.dumps(request or {}).encode(), **{"content_type": "application/json", **headers})

    def events(self, name: str, request: object = None, **headers: str) -> Iterator[dict[str, str]]:
        """Read a stream's events as they come; leaving the iterator ends it."""
        given = {"content_type": "application/json", **headers}
        with self.open("POST", V1 + name, json.dumps(request or {}).encode(), **given) as answer:
            assert answer.status == 200, answer.read()
            event: dict[str, str] = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif event:
                    yield event
                    event = {}


@contextmanager
def web(address: str, token: str = "") -> Iterator[Web]:
    """Serve in front of a control plane."""
    logins, listener = Logins(SystemClock()), listen(0)
    server = Server(address, logins, lambda: None)
    thread = threading.Thread(target=server.run, args=([listener],), name="web")
    thread.start()
    try:
        yield Web(listener.getsockname()[1], logins, token)
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()

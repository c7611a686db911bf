"""An HTTP proxy for one agent: CONNECT for anything, absolute URLs for plain HTTP (RFC 9110, 9.3.6 and 9112, 3.2.2).

Every connection is decided on by itself, before its host's name is looked up: so a name that is not allowed is told to nobody,
and a redirect is one more request of the agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11

from agent_sidecar.egress.dialer import Connection, Dialer, LookUp, Unreached, look_up
from agent_sidecar.egress.door import Decision
from agent_sidecar.egress.headers import downward, upward
from agent_sidecar.egress.limits import EgressLimits
from agent_sidecar.egress.tunnel import tunnel
from agent_sidecar.untrusted.doorway import Doorway
from agent_sidecar.untrusted.wire import Wire
from claude_conductor.egress import Rule, allowed, canonical, split
from claude_conductor.errors import AgentHungUpError, ConductorError, InvalidArgumentError, ProviderUnavailableError

_log = logging.getLogger(__name__)
_HTTP: Final = 80
_OK, _BAD_REQUEST, _FORBIDDEN, _BAD_GATEWAY = 200, 400, 403, 502


@dataclass(frozen=True, slots=True)
class Target:
    """What a request asks for."""

    host: str
    port: int
    path: str = ""
    """Of a plain request; empty for a tunnel."""

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.path and self.port == _HTTP else f"{host}:{self.port}"


def target_of(method: bytes, written: str) -> Target:
    """Return what a request is for.

    Raises:
        InvalidArgumentError: It is no request to a proxy, or what it names is no host.
    """
    if method == b"CONNECT":
        host, port = split(written, 0)
        if not port:
            raise InvalidArgumentError("CONNECT names a host and a port.")
        return Target(canonical(host), port)
    try:
        url = urlsplit(written)
    except ValueError as cause:
        raise InvalidArgumentError("This is not a URL.") from cause
    if url.scheme != "http" or not url.netloc:
        raise InvalidArgumentError("A proxy is asked with CONNECT, or with a whole http:// URL.")
    if "@" in url.netloc:
        raise InvalidArgumentError("A URL for a proxy holds no name and password.")
    host, port = split(url.netloc, _HTTP)
    return Target(canonical(host), port, (url.path or "/") + (f"?{url.query}" if url.query else ""))


class Visit:
    """One connection of the agent: one request, its decision, and what comes of it.

    Args:
        agent: Its wire, in the role of the server.
        rules: What is allowed.
        dialer: Connects.
        on_decision: Told.
        limits: Bounds.
    """

    def __init__(
        self,
        agent: Wire,
        rules: Sequence[Rule],
        dialer: Dialer,
        on_decision: Callable[[Decision], None],
        limits: EgressLimits,
    ) -> None:
        self._agent = agent
        self._rules = rules
        self._dialer = dialer
        self._tell = on_decision
        self._limits = limits

    async def run(self) -> None:
        """Serve the connection to its end, and close it."""
        try:
            await self._serve()
        except ConductorError as error:
            _log.debug("an agent's connection broke off", extra={"reason": error.reason})
        except asyncio.CancelledError:
            self._agent.abort()
            raise
        finally:
            await self._agent.close(self._limits.linger_seconds)

    async def _serve(self) -> None:
        try:
            request = await self._agent.receive(self._limits.request_seconds)
        except InvalidArgumentError as error:
            await self._answer(_BAD_REQUEST, error.message)
            return
        if not isinstance(request, h11.Request):
            return
        written = request.target.decode("ascii", "backslashreplace")
        try:
            target = target_of(request.method, written)
        except InvalidArgumentError as error:
            self._tell(Decision(ascii(written)[1:-1][:300], 0, reason=error.message))
            await self._answer(_BAD_REQUEST, error.message)
            return
        rule = allowed(target.host, target.port, self._rules)
        if rule is None:
            wanted = Rule(target.host, target.port)
            self._tell(Decision(target.host, target.port, reason="it is not on the list of hosts"))
            await self._answer(
                _FORBIDDEN,
                f"{wanted} is not on the list of hosts that this agent may reach; "
                f"whoever submits the task allows it with --allow {wanted}",
            )
            return
        found = await self._dialer.connect(target.host, target.port, rule)
        if isinstance(found, Unreached):
            self._tell(Decision(target.host, target.port, str(rule), found.why))
            await self._answer(found.status, found.why)
            return
        self._tell(Decision(target.host, target.port, str(rule)))
        try:
            await (self._forward(request, target, found) if target.path else self._connect(found))
        finally:
            found[1].transport.abort()

    async def _connect(self, host: Connection) -> None:
        await self._agent.receive(self._limits.request_seconds)  # the end of the request; what follows is the tunnel's
        await self._agent.send(
            h11.Response(status_code=_OK, headers=[], reason=b"Connection established"), self._limits.request_seconds
        )
        reader, writer, ahead = self._agent.bare()
        await tunnel((reader, writer), host, ahead, self._limits.idle_seconds)

    async def _forward(self, request: h11.Request, target: Target, host: Connection) -> None:
        """Carry one plain request and its answer."""
        limits = self._limits
        there = Wire(h11.CLIENT, *host, lost=ProviderUnavailableError, malformed=ProviderUnavailableError)
        head = h11.Request(method=request.method, target=target.path, headers=upward(request.headers, target.authority))
        try:
            await there.send(head, limits.answer_seconds)
            if self._agent.state.they_are_waiting_for_100_continue:
                await self._agent.send(h11.InformationalResponse(status_code=100, headers=[]), limits.request_seconds)
            while isinstance(piece := await self._agent.receive(limits.request_seconds), h11.Data):
                await there.send(h11.Data(data=piece.data), limits.answer_seconds)
            await there.send(h11.EndOfMessage(), limits.answer_seconds)
            answer = await there.receive(limits.answer_seconds)
            while isinstance(answer, h11.InformationalResponse):
                answer = await there.receive(limits.answer_seconds)
        except ProviderUnavailableError:
            answer = h11.ConnectionClosed()
        if not isinstance(answer, h11.Response):
            await self._answer(_BAD_GATEWAY, f"{target.authority} broke off before it answered, or does not speak HTTP")
            return
        response = h11.Response(status_code=answer.status_code, reason=answer.reason, headers=downward(answer.headers))
        await self._agent.send(response, limits.answer_seconds)
        while isinstance(piece := await there.receive(limits.answer_seconds), h11.Data):
            await self._agent.send(h11.Data(data=piece.data), limits.answer_seconds)
        await self._agent.send(h11.EndOfMessage(), limits.answer_seconds)

    async def _answer(self, status: int, why: str) -> None:
        """Answer with words of our own."""
        body = f"conductor: {why}\n".encode("ascii", "backslashreplace")
        headers = [("content-type", "text/plain"), ("content-length", str(len(body))), ("connection", "close")]
        seconds = self._limits.request_seconds
        await self._agent.send(h11.Response(status_code=status, headers=headers), seconds)
        await self._agent.send(h11.Data(data=body), seconds)
        await self._agent.send(h11.EndOfMessage(), seconds)


def proxy(
    rules: Sequence[Rule], on_decision: Callable[[Decision], None], limits: EgressLimits, look_up: LookUp = look_up
) -> Doorway:
    """Return the proxy of one agent; it is not open yet.

    Args:
        rules: What it may reach.
        on_decision: Told of each connection.
        limits: Bounds.
        look_up: Returns the addresses of a host.
    """
    dialer = Dialer(limits.connect_seconds, look_up)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(h11.SERVER, reader, writer, lost=AgentHungUpError, malformed=InvalidArgumentError)
        await Visit(wire, rules, dialer, on_decision, limits).run()

    return Doorway(serve, limits.connections, "egress")

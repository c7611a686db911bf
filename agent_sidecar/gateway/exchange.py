"""What happens on one connection of the agent: each request is admitted, carried to the provider, and its answer carried back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import h11

from agent_sidecar.gateway.admission import Asked, admit
from agent_sidecar.gateway.dialer import Dialer
from agent_sidecar.gateway.estimate import PATH, need
from agent_sidecar.gateway.headers import downward, upward
from agent_sidecar.gateway.hold import Hold
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import Provider
from agent_sidecar.gateway.purse import Purse
from agent_sidecar.gateway.question import Question
from agent_sidecar.gateway.rate_limit import reset_seconds
from agent_sidecar.gateway.refusal import Refusal, limited, refusal_for
from agent_sidecar.gateway.usage import Usage, UsageReader
from agent_sidecar.untrusted.wire import Wire
from claude_conductor.clock import Clock
from claude_conductor.errors import (
    AgentHungUpError,
    ConductorError,
    InvalidArgumentError,
    ProviderUnavailableError,
)
from claude_conductor.groups import sole

_log = logging.getLogger(__name__)
_TOO_MANY_REQUESTS = 429
_NOT_DONE = 300


@dataclass(frozen=True, slots=True)
class Observers:
    """Whom the gateway tells. They are called between two awaits, so they return at once and do not raise."""

    on_usage: Callable[[Usage], None]
    """Tokens of one answer; also of one that broke off, as far as it was known."""
    on_rate_limit: Callable[[float], None]
    """Seconds until the provider takes requests again, as it said here."""
    on_hold: Callable[[float], None]
    """Seconds for which a request has to wait."""
    on_taken: Callable[[], None]
    """The provider answered otherwise than by a rate limit."""


@dataclass(slots=True)
class Traffic:
    """What the connections of one gateway share."""

    provider: Provider
    limits: GatewayLimits
    dialer: Dialer
    observers: Observers
    clock: Clock
    hold: Hold
    purse: Purse | None = None
    under_way: int = 0
    """Exchanges at this moment."""


class Conversation:
    """One connection of the agent.

    Args:
        agent: Its wire, in the role of the server.
        traffic: Shared with the other connections.
    """

    def __init__(self, agent: Wire, traffic: Traffic) -> None:
        self._agent = agent
        self._traffic = traffic
        self._limits = traffic.limits

    async def run(self) -> None:
        """Serve requests until the agent closes, is silent for too long, or an answer broke off. Then close."""
        try:
            while await self._next():
                self._agent.state.start_next_cycle()
        except AgentHungUpError as gone:
            _log.debug("agent closed its model connection", extra={"reason": gone.reason})
        except asyncio.CancelledError:
            self._agent.abort()
            raise
        finally:
            await self._agent.close(self._limits.linger_seconds)

    async def _next(self) -> bool:
        """Serve one request; return whether the connection can take another."""
        try:
            request = await self._agent.receive(self._limits.idle_seconds)
        except InvalidArgumentError as error:
            await self._refuse(refusal_for(error, limit=self._limits.body_bytes), b"")
            return False
        if not isinstance(request, h11.Request):
            return False
        refusal = admit(asked_of(request), self._traffic.provider, self._limits, self._traffic.under_way)
        if refusal is None:
            refusal = await self._carry(request)
        if refusal is not None:
            await self._refuse(refusal, request.method)
        await self._linger()
        return self._agent.state.states == {h11.SERVER: h11.DONE, h11.CLIENT: h11.DONE}

    async def _carry(self, request: h11.Request) -> Refusal | None:
        """Take the request to the provider and its answer back; return what to answer where the provider's answer never began."""
        self._traffic.under_way += 1
        try:
            async with asyncio.timeout(self._limits.exchange_seconds):
                return await self._ask(request)
        except TimeoutError as cause:
            overdue = ProviderUnavailableError("The model request took longer than the gateway allows.")
            overdue.__cause__ = cause
            return self._failed(overdue)
        except ConductorError as error:
            return self._failed(error)
        finally:
            self._traffic.under_way -= 1

    async def _ask(self, request: h11.Request) -> Refusal | None:
        """Ask the provider, once the task's budget has room for it; return as `_carry`."""
        traffic, limits = self._traffic, self._limits
        head = h11.Request(
            method=request.method,
            target=traffic.provider.prefix.encode("ascii") + request.target,
            headers=upward(request.headers, traffic.provider),
        )
        if traffic.purse is None or head.method != b"POST" or asked_of(request).target.partition("?")[0] != PATH:
            return await self._carry_on(Question(head, limits.body_bytes, limits.kept_bytes))
        question = Question(head, limits.body_bytes, limits.body_bytes)
        await self._read(question)
        question.need = need(b"".join(question.again or ()))
        await self._while_it_stays(traffic.purse.reserve(question.need))
        try:
            return await self._carry_on(question)
        finally:
            traffic.purse.give_back(question.need)

    async def _read(self, question: Question) -> None:
        """Take the whole body of a request before anything is sent: what it may cost stands in it."""
        limits = self._limits
        await self._welcome_body()
        while isinstance(piece := await self._agent.receive(limits.request_seconds), h11.Data):
            question.add(bytes(piece.data))
        question.whole = True

    async def _welcome_body(self) -> None:
        if self._agent.state.they_are_waiting_for_100_continue:
            await self._agent.send(h11.InformationalResponse(status_code=100, headers=[]), self._limits.reading_seconds)

    async def _carry_on(self, question: Question) -> Refusal | None:
        """Ask when the provider's rate limit allows it, and again if it says then that it does not; return as `_carry`."""
        traffic, limits = self._traffic, self._limits
        again = True
        while again:
            while not traffic.hold.take():
                if (left := traffic.hold.turn_in) > 0:
                    traffic.observers.on_hold(left)
                if left > limits.hold_seconds:
                    return limited(left)
                await self._while_it_stays(traffic.hold.change())
            try:
                provider = await traffic.dialer.connect()
                try:
                    again = await self._both_ways(question, provider)
                finally:
                    provider.abort()
            finally:
                traffic.hold.give_back()
        return None

    async def _while_it_stays(self, waiting: Coroutine[None, None, None]) -> None:
        """Wait for something unless the agent hangs up meanwhile.

        Raises:
            AgentHungUpError: It did.
        """
        try:
            async with asyncio.TaskGroup() as both:
                watching = both.create_task(self._agent.watch(), name="model agent")
                waited = both.create_task(waiting, name="model limit")
                waited.add_done_callback(lambda _: watching.cancel())
        except ExceptionGroup as failed:
            error = sole(failed, ConductorError)
            raise error from error.__cause__

    def _failed(self, error: ConductorError) -> Refusal | None:
        """Decide what a failure means for the agent: an error it can read, or, inside an answer, the end of its connection."""
        _log.warning("model request failed", extra={"reason": error.reason, "details": error.details})
        if isinstance(error, AgentHungUpError):
            raise error
        if self._agent.state.our_state is not h11.SEND_RESPONSE:
            return None
        return refusal_for(error, limit=self._limits.body_bytes)

    async def _both_ways(self, question: Question, provider: Wire) -> bool:
        """Send the request while the answer may come already; the end of the answer, or of the agent, ends both.

        Returns:
            Whether the request has to be sent again because of a rate limit, of which the agent was told nothing.

        Raises:
            ConductorError: Why it did not come to its end.
        """
        try:
            async with asyncio.TaskGroup() as both:
                answer = both.create_task(self._download(question, provider), name="model answer")
                asking = both.create_task(self._upload(question, provider), name="model question")
                answer.add_done_callback(lambda _: asking.cancel())
        except ExceptionGroup as failed:
            error = sole(failed, ConductorError)
            raise error from error.__cause__
        return answer.result()

    async def _upload(self, question: Question, provider: Wire) -> None:
        """Send the request, then watch whether the agent stays."""
        limits = self._limits
        try:
            await provider.send(question.head, limits.request_seconds)
            for kept in question.again or ():
                await provider.send(h11.Data(data=kept), limits.request_seconds)
            await self._welcome_body()
            while not question.whole and isinstance(piece := await self._agent.receive(limits.request_seconds), h11.Data):
                question.add(bytes(piece.data))
                await provider.send(h11.Data(data=piece.data), limits.request_seconds)
            question.whole = True
            await provider.send(h11.EndOfMessage(), limits.request_seconds)
        except ProviderUnavailableError as broken:
            # A provider that refuses early closes its side while it is still written to; its answer says why, so that is read on.
            _log.debug("provider stopped reading", extra={"reason": broken.reason})
        await self._agent.watch()

    async def _download(self, question: Question, provider: Wire) -> bool:
        """Pass the answer on, each piece as it comes; or say that it is a rate limit, and the question can be asked again."""
        limits, observers = self._limits, self._traffic.observers
        response = await provider.receive(limits.first_byte_seconds)
        while isinstance(response, h11.InformationalResponse):
            response = await provider.receive(limits.first_byte_seconds)
        if not isinstance(response, h11.Response):
            raise ProviderUnavailableError("The model provider closed the connection without an answer.")
        if self._limited(response) and question.again is not None and self._traffic.hold.turn_in <= limits.hold_seconds:
            return True
        content_type = dict(response.headers).get(b"content-type", b"").decode("ascii", "replace")
        reader = UsageReader(content_type)
        head = h11.Response(status_code=response.status_code, reason=response.reason, headers=downward(response.headers))
        try:
            await self._agent.send(head, limits.reading_seconds)
            while isinstance(piece := await provider.receive(limits.pause_seconds), h11.Data):
                reader.feed(bytes(piece.data))
                await self._agent.send(h11.Data(data=piece.data), limits.reading_seconds)
        finally:
            used = reader.usage() or (question.unknown() if response.status_code < _NOT_DONE else None)
            if used is not None:
                observers.on_usage(used)
        await self._agent.send(h11.EndOfMessage(), limits.reading_seconds)
        return False

    def _limited(self, response: h11.Response) -> bool:
        """Note whether the provider takes requests; return whether it does not."""
        hold, observers = self._traffic.hold, self._traffic.observers
        if response.status_code != _TOO_MANY_REQUESTS:
            hold.taken()
            observers.on_taken()
            return False
        known = reset_seconds(response.headers, self._traffic.clock.now())
        seconds = self._limits.unknown_reset_seconds if known is None else known
        hold.close(seconds)
        observers.on_rate_limit(seconds)
        return True

    async def _refuse(self, refusal: Refusal, method: bytes) -> None:
        """Answer with an error of our own."""
        body = refusal.body()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), *refusal.headers]
        seconds = self._limits.reading_seconds
        await self._agent.send(h11.Response(status_code=refusal.status, headers=headers), seconds)
        if method != b"HEAD":
            await self._agent.send(h11.Data(data=body), seconds)
        await self._agent.send(h11.EndOfMessage(), seconds)

    async def _linger(self) -> None:
        """Read what is left of a request that was answered early, so that the agent sees the answer and no reset."""
        if self._agent.state.our_state is not h11.DONE:
            return
        try:
            async with asyncio.timeout(self._limits.linger_seconds):
                while self._agent.state.their_state is h11.SEND_BODY:
                    await self._agent.receive(self._limits.linger_seconds)
        except (TimeoutError, InvalidArgumentError) as late:
            _log.debug("rest of a request was not read", extra={"reason": type(late).__name__})


def asked_of(request: h11.Request) -> Asked:
    """Return what the first lines of a request tell."""
    length = dict(request.headers).get(b"content-length")
    return Asked(
        method=request.method.decode("ascii"),
        target=request.target.decode("ascii"),
        content_length=int(length) if length is not None else None,
    )

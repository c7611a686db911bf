"""What does every call pass before it reaches its servicer? Trace, then identity, then rights, then errors."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc

from claude_conductor.errors import ConductorError, ControlPlaneUnavailableError, DeadlineExceededError, PermissionDeniedError
from claude_conductor.rpc import status
from claude_conductor.rpc.readable import Readable
from claude_conductor.telemetry.traces import Tracer, parse
from controlplane.api.guard.caller import Caller, Tokens, current_caller, set_caller
from controlplane.api.guard.live import LiveCalls, agent_key
from controlplane.api.guard.rights import FOREIGN, OPEN, allowed
from controlplane.service.meter import Meter

_log = logging.getLogger(__name__)
DEFAULT_SECONDS = 60.0
"""A unary call that sets no deadline ends after this long."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Next = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Around = Callable[[Context], AbstractAsyncContextManager[None]]

_TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")


def current_traceparent() -> str:
    """Return the trace context of the present call; empty when there is none."""
    return _TRACEPARENT.get()


def wrapped(handler: Handler, around: Around) -> Handler:
    """Return the handler with `around` entered for the length of each call, whatever kind of call it is."""
    inner = behaviour(handler)

    async def call(request: Any, context: Context) -> Any:  # noqa: ANN401 - whatever the servicer takes and returns
        async with around(context):
            answer = inner(request, context)
            if not inspect.isasyncgen(answer):
                return await answer
            async for item in answer:
                await context.write(item)
            return None

    return rebuilt(handler, call)


def refusing(handler: Handler, error: ConductorError) -> Handler:
    """Return a handler of the same kind that refuses every call without reading its request."""

    async def refuse(request: Any, context: Context) -> None:  # noqa: ANN401 - not looked at
        del request
        await status.abort(context, error)

    return rebuilt(handler, refuse, parse_request=False)


def behaviour(handler: Handler) -> Callable[[Any, Context], Any]:
    """Return what a handler does, whatever kind of call it is."""
    if handler.request_streaming:
        found = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        found = handler.unary_stream if handler.response_streaming else handler.unary_unary
    assert found is not None
    return found  # type: ignore[return-value]  # the stubs know the synchronous context only


def rebuilt(handler: Handler, does: Callable[[Any, Context], Awaitable[Any]], *, parse_request: bool = True) -> Handler:
    """Return a handler of the same kind that does something else."""
    make: Callable[..., Handler]
    if handler.request_streaming:
        make = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    else:
        make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return make(does, handler.request_deserializer if parse_request else None, handler.response_serializer)


def metadata(details: grpc.HandlerCallDetails, name: str) -> str:
    """Return the first value of this name that is a text; empty when there is none."""
    for key, value in details.invocation_metadata or ():
        if key == name and isinstance(value, str):
            return value
    return ""


class Trace(grpc.aio.ServerInterceptor):
    """A span for each call, below the caller's trace context."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(self, continuation: Next, details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the call in a span."""
        handler = await continuation(details)
        if handler is None or details.method in FOREIGN:
            return handler
        parent = metadata(details, "traceparent")
        parent = parent if parse(parent) else ""

        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            attributes = {"rpc.system.name": "grpc", "rpc.method": details.method.removeprefix("/")}
            span = self._tracer.start(details.method.removeprefix("/"), parent=parent, kind="server", attributes=attributes)
            _TRACEPARENT.set(span.traceparent)
            try:
                yield
            finally:
                code = context.code()
                if code:
                    span.fail(grpc.StatusCode(code).name if isinstance(code, grpc.StatusCode) else str(code))
                span.end()

        return wrapped(handler, around)


class Measure(grpc.aio.ServerInterceptor):
    """How long unary calls take, and how they end."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def intercept_service(self, continuation: Next, details: grpc.HandlerCallDetails) -> Handler | None:
        """Time the call. What is served is known, so callers cannot make up names."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        method = details.method.removeprefix("/")

        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            began = time.perf_counter()
            try:
                yield
            finally:
                code = context.code()
                name = grpc.StatusCode(code).name if code else "OK"
                self._meter.rpc.observe(time.perf_counter() - began, method, name)

        return wrapped(handler, around)


class Identity(grpc.aio.ServerInterceptor):
    """Finds out who calls, before the request is read."""

    def __init__(self, tokens: Tokens, live: LiveCalls, now: Callable[[], float]) -> None:
        self._tokens = tokens
        self._live = live
        self._now = now

    async def intercept_service(self, continuation: Next, details: grpc.HandlerCallDetails) -> Handler | None:
        """Refuse callers nobody knows."""
        set_caller(None)
        error: ConductorError | None = None
        if details.method not in OPEN:
            try:
                set_caller(self._tokens.caller(metadata(details, "authorization")))
            except ConductorError as refused:
                error = refused
        handler = await continuation(details)
        if handler is None or details.method in OPEN:
            return handler
        if error is not None:
            return refusing(handler, error)
        return self._held(handler, current_caller()) if handler.response_streaming else handler

    def _held(self, handler: Handler, caller: Caller) -> Handler:
        """Return a handler whose streams end when the caller's identity does."""
        key = agent_key(caller.tenant_id, caller.agent_id) if caller.agent_id else caller.token_id
        if not key:  # the operator of this home
            return handler

        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            try:
                async with self._live.held(key, caller.end - self._now() if caller.end else None):
                    yield
            except ConductorError as error:
                await status.abort(context, error)

        return wrapped(handler, around)


class Authorize(grpc.aio.ServerInterceptor):
    """Refuses what the table of rights does not allow."""

    async def intercept_service(self, continuation: Next, details: grpc.HandlerCallDetails) -> Handler | None:
        """Refuse what is not allowed."""
        handler = await continuation(details)
        if handler is None or details.method in OPEN:
            return handler
        try:
            caller = current_caller()
            if not allowed(details.method, caller.role):
                raise PermissionDeniedError(method=details.method.removeprefix("/"), role=caller.role.value)
        except ConductorError as error:
            return refusing(handler, error)
        return handler


class Errors(grpc.aio.ServerInterceptor):
    """Turns what servicers raise into a status: ours with their reason, others into INTERNAL and a logged traceback."""

    async def intercept_service(self, continuation: Next, details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the call; the only `except Exception` of the program."""
        handler = await continuation(details)
        if handler is None or details.method in FOREIGN:
            return handler
        unary = not handler.request_streaming and not handler.response_streaming

        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            without_end = unary and not _has_deadline(context)
            try:
                async with asyncio.timeout(DEFAULT_SECONDS if without_end else None):
                    yield
            except grpc.aio.AbortError:
                raise
            except TimeoutError:
                await status.abort(context, DeadlineExceededError(seconds=DEFAULT_SECONDS))
            except ConductorError as error:
                await status.abort(context, error)
            except grpc.aio.InternalError as error:  # the library's, of a call whose caller is gone
                _log.info("a call was broken off", extra={"method": details.method, "cause": str(error)})
                await status.abort(context, ControlPlaneUnavailableError("The stream ended."))
            except Exception:  # noqa: BLE001 - the outermost interceptor: nothing a servicer raises may pass it
                _log.exception("a call failed", extra={"method": details.method})
                await status.abort(context, ConductorError())

        return wrapped(handler, around)


def _has_deadline(context: Context) -> bool:
    left = context.time_remaining()
    return left is not None and left < 1e6


def interceptors(
    tracer: Tracer, meter: Meter | None, audited: grpc.aio.ServerInterceptor, *identity: grpc.aio.ServerInterceptor
) -> Sequence[grpc.aio.ServerInterceptor]:
    """Return the guard, outermost first; `audited` keeps record, `identity` finds out who calls, and whether they may."""
    measure = (Measure(meter),) if meter is not None else ()
    return (*measure, Trace(tracer), audited, *identity, Errors(), Readable())


def by_token(tokens: Tokens, live: LiveCalls, now: Callable[[], float]) -> Sequence[grpc.aio.ServerInterceptor]:
    """Return identity and rights of listeners where callers have tokens."""
    return (Identity(tokens, live, now), Authorize())

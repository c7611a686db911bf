"""How is a call served? Interceptors, then the handler they choose, then what it returned or raised; as grpc.aio does it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import grpc

from controlplane.transport.call import Call
from controlplane.transport.context import Context, Handler
from controlplane.transport.refusal import CallRefusedError, Code

_log = logging.getLogger(__name__)


class Services:
    """What is served, and what every call passes first."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._interceptors = tuple(interceptors)
        self._handlers: list[grpc.GenericRpcHandler] = []

    def add(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Serve this too; what was added first is asked first."""
        self._handlers += handlers

    async def serve(self, call: Call) -> None:
        """Serve one call from beginning to end. Whatever a servicer raises ends here."""
        try:
            handler = await self._chosen(0, call.invocation)
            if handler is None:
                call.finish(Code.UNIMPLEMENTED, "Method not found!")
                return
            await _run(handler, call)
        except CallRefusedError as refused:
            call.finish(refused.code, refused.details)
        except grpc.aio.AbortError:
            return  # its status has left
        except asyncio.CancelledError:
            call.finish(Code.CANCELLED, "The call was cancelled.")
            raise
        except Exception as error:  # noqa: BLE001 - the outermost handler of a call
            if call.lost and isinstance(error, grpc.aio.InternalError):
                return  # it wrote, and nobody was there
            _log.exception("a call failed", extra={"method": call.invocation.method})
            call.finish(Code.UNKNOWN, f"Unexpected {type(error)}: {error}")

    async def _chosen(self, index: int, details: Any) -> Handler | None:  # noqa: ANN401 - interceptors may hand on their own
        if index < len(self._interceptors):

            async def others(changed: Any) -> Handler | None:  # noqa: ANN401 - as above
                return await self._chosen(index + 1, changed)

            return await self._interceptors[index].intercept_service(others, details)
        for known in self._handlers:
            if (handler := known.service(details)) is not None:
                return handler
        return None


async def _run(handler: Handler, call: Call) -> None:
    context = Context(call, handler)
    try:
        request = context.requests() if handler.request_streaming else await context.request()
        if handler.response_streaming:
            await _stream(handler.stream_stream if handler.request_streaming else handler.unary_stream, request, context)
        else:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            await context.answer(await behaviour(request, context))
    finally:
        context.run_callbacks()


async def _stream(behaviour: Any, request: Any, context: Context) -> None:  # noqa: ANN401 - the servicer's
    if inspect.isasyncgenfunction(behaviour):
        async for message in behaviour(request, context):
            await context.write(message)
    else:
        await behaviour(request, context)
    context.finish()

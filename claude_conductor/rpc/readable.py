"""What is answered to a request that is no valid protobuf? A reason, as to any other bad request."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from claude_conductor.errors import MalformedFrameError
from claude_conductor.rpc.status import abort

_UNREADABLE: Final = object()


class Readable(grpc.aio.ServerInterceptor):
    """Refuses requests nobody can read; gRPC alone answers UNKNOWN and logs a traceback for each.

    The innermost interceptor: whoever may not call learns nothing more by sending rubbish. Streams of requests are left alone.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the call."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        deserialize = handler.request_deserializer
        inner: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary

        def read(raw: bytes) -> object:
            try:
                return deserialize(raw)
            except DecodeError:
                return _UNREADABLE

        async def call(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: ANN401 - the servicer's
            if request is _UNREADABLE:
                await abort(context, MalformedFrameError("The request is not valid protobuf."))
            answer = inner(request, context)
            if not inspect.isasyncgen(answer):
                return await answer
            async for item in answer:
                await context.write(item)
            return None

        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(call, read, handler.response_serializer)

"""How is one call made: as whom, for how long at most, and what do its failures become?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

import grpc

from claude_conductor.errors import ConductorError, ControlPlaneUnavailableError, Kind, StoreUnavailableError
from claude_conductor.rpc import channel
from claude_conductor.rpc.status import from_call
from claude_conductor.settings.secret import Secret

DEADLINE: Final = 10.0
"""Seconds a unary call may take unless it says otherwise."""
STREAM_DEADLINE: Final = 3600.0
"""Seconds after which a stream is opened again; no call is without an end."""
PATIENCE: Final = 30.0
"""Seconds a stream may be without a control plane before it gives up."""
_PAUSE: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

_Response = TypeVar("_Response")


class Caller:
    """Calls the control plane as one identity."""

    def __init__(
        self, address: str, token: Secret, opened: grpc.aio.Channel | None = None, tls: channel.Tls | None = None
    ) -> None:
        self.address = address
        self.channel = opened or channel.open_channel(address, tls=tls)
        self._token = token

    async def unary(
        self,
        method: Callable[..., Awaitable[_Response]],
        request: object,
        *,
        timeout: float = DEADLINE,
        traceparent: str = "",
    ) -> _Response:
        """Make a unary call.

        Args:
            method: Of a stub.
            request: Its message.
            timeout: Seconds at most.
            traceparent: W3C trace context to continue.

        Raises:
            ConductorError: The class of the reason the control plane gave, or of the transport's failure.
        """
        try:
            return await method(request, timeout=timeout, metadata=channel.bearer(self._token.reveal(), traceparent))
        except grpc.aio.AioRpcError as cause:
            raise self.failure(cause) from cause

    async def stream(
        self, method: Callable[..., Any], request: object, *, timeout: float = STREAM_DEADLINE
    ) -> AsyncGenerator[Any, None]:
        """Read one server stream to its end; leaving the iterator ends the call.

        Raises:
            ConductorError: As for `unary`.
        """
        call = method(request, timeout=timeout, metadata=channel.bearer(self._token.reveal()))
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as cause:
            raise self.failure(cause) from cause
        finally:
            call.cancel()

    async def resume(
        self, method: Callable[..., Any], request: Callable[[], object], *, patience: float = PATIENCE
    ) -> AsyncGenerator[Any, None]:
        """Read a server stream over restarts of the control plane.

        Args:
            method: Of a stub.
            request: Builds the request at each opening, from the cursor its user keeps.
            patience: Seconds without any answer before it gives up.

        Raises:
            ConductorError: The first failure a repeat cannot help with, or the last one when patience ended.
        """
        loop = asyncio.get_running_loop()
        failures, deadline = 0, loop.time() + patience
        while True:
            try:
                async with aclosing(self.stream(method, request())) as responses:
                    async for response in responses:
                        failures, deadline = 0, loop.time() + patience
                        yield response
                return
            except ConductorError as failure:
                pause = _PAUSE[min(failures, len(_PAUSE) - 1)]
                if not _passing(failure) or loop.time() + pause > deadline:
                    raise
                failures += 1
            await asyncio.sleep(pause)

    def failure(self, cause: grpc.aio.AioRpcError) -> ConductorError:
        """Return our error for a failed call; an unreachable control plane is named with its address."""
        error = from_call(cause)
        if type(error) is ControlPlaneUnavailableError:
            return ControlPlaneUnavailableError(address=self.address, **error.details)
        return error

    async def close(self) -> None:
        """Close the channel; running calls are cancelled. Idempotent."""
        await self.channel.close()


def _passing(failure: ConductorError) -> bool:
    """Tell whether a stream may be opened again after this failure."""
    return isinstance(failure, ControlPlaneUnavailableError | StoreUnavailableError) or failure.kind is Kind.DEADLINE_EXCEEDED

"""How is a call made for somebody else? With their token, and nothing of ours."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any, Final

from google.protobuf.message import Message

from claude_conductor.rpc.channel import Tls, bearer, open_channel
from claude_conductor.web.methods import Method

UNARY_SECONDS: Final = 60.0
STREAM_SECONDS: Final = 3600.0
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,4096}")


class Forwarding:
    """One channel to the control plane, shared by everybody; each call says who makes it."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        """Connecting happens with the first call; `tls` says whom to trust where the address is on a network."""
        self.address = address
        self.channel = open_channel(address, tls=tls)

    async def unary(self, method: Method, request: Message, token: str) -> Any:  # noqa: ANN401 - the method's response
        """Make a call.

        Raises:
            grpc.aio.AioRpcError: It failed, with everything the control plane said of it.
        """
        call: Any = self.channel.unary_unary(
            method.full, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString
        )
        return await call(request, timeout=UNARY_SECONDS, metadata=bearer(sent(token)))

    async def stream(self, method: Method, request: Message, token: str) -> AsyncGenerator[Any, None]:
        """Read a stream; leaving the iterator ends the call.

        Raises:
            grpc.aio.AioRpcError: As `unary`.
        """
        make: Any = self.channel.unary_stream(
            method.full, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString
        )
        call = make(request, timeout=STREAM_SECONDS, metadata=bearer(sent(token)))
        try:
            async for item in call:
                yield item
        finally:
            call.cancel()

    async def close(self) -> None:
        """End what goes on."""
        await self.channel.close()


def sent(token: str) -> str:
    """Return a token that can travel: what cannot be one becomes none, which the control plane refuses."""
    return token if _TOKEN.fullmatch(token) else ""

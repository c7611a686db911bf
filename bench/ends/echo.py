"""The floor every round trip is compared with: a bare grpcio stream that echoes bytes, two hops instead of four."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TypeAlias

from claude_conductor.rpc import process

process.prepare()

import grpc  # noqa: E402 - the settings above are read at import

from bench.ends import parts  # noqa: E402
from claude_conductor.rpc.channel import open_channel  # noqa: E402

METHOD = "/bench.Echo/Echo"
SERVING_SECONDS = 300.0
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


async def serve(address: str) -> None:
    """Echo until ended."""

    async def echo(_: object, context: Context) -> None:
        while isinstance(message := await context.read(), bytes):
            await context.write(message)

    server = grpc.aio.server()
    handlers = grpc.method_handlers_generic_handler("bench.Echo", {"Echo": grpc.stream_stream_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


class Stream:
    """One stream to the echo server."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self._call = call

    async def send(self, payload: bytes) -> None:
        """See Line."""
        await self._call.write(payload)

    async def flood(self, payload: bytes, count: int) -> None:
        """See Line."""
        for _ in range(count):
            await self._call.write(payload)

    async def receive(self) -> Sequence[bytes]:
        """See Line."""
        answer = await self._call.read()
        return [answer] if isinstance(answer, bytes) else []

    async def ask(self, payload: bytes) -> None:
        """See Line."""
        await self._call.write(payload)
        await self._call.read()


async def open_stream(part: parts.Part, number: int, stack: AsyncExitStack) -> Stream:
    """Open the stream of one pair."""
    del number
    channel = await stack.enter_async_context(open_channel(part.address))
    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(METHOD)(wait_for_ready=True)
    stack.callback(call.cancel)
    return Stream(call)


if __name__ == "__main__":
    given = parts.arguments()
    if given.name == "serve":
        process.run(asyncio.wait_for(serve(given.address), SERVING_SECONDS))
    else:
        parts.main(open_stream, process.run)

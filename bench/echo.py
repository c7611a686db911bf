"""The floor every round trip is compared with: a bare grpcio stream that echoes bytes, two hops instead of four."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from claude_conductor.rpc import process

process.prepare()

import grpc  # noqa: E402 - the settings above are read at import

from claude_conductor.rpc.channel import open_channel  # noqa: E402

METHOD = "/bench.Echo/Echo"


async def serve(path: str) -> None:
    """Echo until ended."""

    async def echo(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)

    server = grpc.aio.server()
    handlers = grpc.method_handlers_generic_handler("bench.Echo", {"Echo": grpc.stream_stream_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


async def measure(path: str, size: int, count: int) -> list[float]:
    """Return the seconds of each round trip."""
    times = []
    async with open_channel(f"unix:{path}") as channel:
        stream = channel.stream_stream(METHOD)()
        for _ in range(count):
            began = time.perf_counter()
            await stream.write(b"x" * size)
            await stream.read()
            times.append(time.perf_counter() - began)
        stream.cancel()
    return times


def run(place: Path, size: int, count: int) -> list[float]:
    """Measure in this process against a server in another."""
    import subprocess  # noqa: PLC0415 - only the measuring side starts a process

    path = place / "echo.sock"
    server = subprocess.Popen([sys.executable, "-m", "bench.echo", str(path)])
    try:
        while not path.is_socket():
            time.sleep(0.01)
        return process.run(measure(str(path), size, count))
    finally:
        server.terminate()
        server.wait()
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    process.run(asyncio.wait_for(serve(sys.argv[1]), 300))

"""Apps of SLIM through its Python binding, and its data plane, which the binding carries within.

As its examples show: one connection a process, one app an agent, a point-to-point session a pair. Sessions are unreliable (no
retries), its faster kind. It has no way to send several messages together.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import slim_bindings

from bench.ends import parts

SECRET = "a secret both apps of a benchmark know, 32 bytes or more"  # noqa: S105 - it guards nothing
_PATIENCE = timedelta(seconds=parts.LONGEST)
_connection: list[asyncio.Task[int]] = []


def start_service() -> slim_bindings.Service:
    """Start what the binding runs in this process."""
    tracing = slim_bindings.new_tracing_config()
    tracing.log_level = "error"
    slim_bindings.initialize_with_configs(
        tracing_config=tracing,
        runtime_config=slim_bindings.new_runtime_config(),
        service_config=[slim_bindings.new_service_config()],
    )
    return slim_bindings.get_global_service()


class Pair:
    """One end of a session."""

    def __init__(self, app: slim_bindings.App, session: slim_bindings.Session | None) -> None:
        self._app = app
        self._open = session

    async def _session(self) -> slim_bindings.Session:
        if self._open is None:
            self._open = await self._app.listen_for_session_async(_PATIENCE)
        return self._open

    async def send(self, payload: bytes) -> None:
        """See Line."""
        await (await self._session()).publish_async(payload, None, None)

    async def flood(self, payload: bytes, count: int) -> None:
        """See Line."""
        for _ in range(count):
            await self.send(payload)

    async def receive(self) -> Sequence[bytes]:
        """See Line."""
        return [(await (await self._session()).get_message_async(timeout=_PATIENCE)).payload]

    async def ask(self, payload: bytes) -> None:
        """See Line."""
        await self.send(payload)
        await self.receive()


async def open_pair(part: parts.Part, number: int, stack: AsyncExitStack) -> Pair:
    """Make one pair's end."""
    del stack  # the process ends with the service
    if not _connection:
        slim_bindings.uniffi_set_event_loop(asyncio.get_running_loop())
        client = slim_bindings.new_insecure_client_config(f"http://{part.address}")
        _connection.append(asyncio.create_task(start_service().connect_async(client), name="connect"))
    connection = await _connection[0]
    me, other = (f"s{number}", f"r{number}") if part.sends else (f"r{number}", f"s{number}")
    name, remote = (slim_bindings.Name.from_string(f"bench/relay/{each}") for each in (me, other))
    app = slim_bindings.get_global_service().create_app_with_secret(name, SECRET)
    await app.subscribe_async(name, connection)
    if not part.sends:
        return Pair(app, None)
    await app.set_route_async(remote, connection)
    kind = slim_bindings.SessionType.POINT_TO_POINT
    config = slim_bindings.SessionConfig(session_type=kind, max_retries=None, interval=None, metadata={}, mls_settings=None)
    made = await app.create_session_async(config, remote)
    await made.completion.wait_async()
    return Pair(app, made.session)


async def serve(address: str) -> None:
    """Run the data plane until ended."""
    slim_bindings.uniffi_set_event_loop(asyncio.get_running_loop())
    service = start_service()
    await service.run_server_async(slim_bindings.new_insecure_server_config(address))
    print("ready", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    given = parts.arguments()
    if given.name == "serve":
        asyncio.run(serve(given.address))
    else:
        parts.main(open_pair)

"""Bytes both ways between an agent and a host, until both have ended or nothing has moved for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agent_sidecar.egress.dialer import Connection

_CHUNK: Final = 64 << 10


async def tunnel(agent: Connection, host: Connection, ahead: bytes, idle_seconds: float) -> None:
    """Return when both directions have ended, one of them broke off, or nothing moved for so long. Closes neither.

    A side that reads slowly slows the other one; at most some 64 KiB wait in each direction.

    Args:
        agent: Its connection.
        host: The one it asked for.
        ahead: What of the agent was read already.
        idle_seconds: How long nothing may move.
    """
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(idle_seconds) as idle:

            def moved() -> None:
                idle.reschedule(loop.time() + idle_seconds)

            host[1].write(ahead)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(agent[0], host[1], moved), name="tunnel to the host")
                    both.create_task(_pump(host[0], agent[1], moved), name="tunnel to the agent")
            except* OSError as broken:
                raise ConnectionError from broken


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, moved: Callable[[], None]) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()
        moved()
    target.write_eof()

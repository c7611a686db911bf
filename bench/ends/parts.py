"""What do senders and receivers do, whatever they are connected to? Standard library only, as peers have their own Pythons."""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

LONGEST = 40.0
"""Seconds one part may take, connecting included."""
SENDING = frozenset({"flood", "ping", "pace"})
_STAMP = struct.Struct("<d")
_CONNECTING = 16


@dataclass(frozen=True, slots=True)
class Part:
    """What one process does."""

    name: str
    address: str
    pairs: int
    size: int
    """Bytes of a payload."""
    count: int
    """Messages of each pair."""
    rate: float
    """Messages a second of all pairs together, for the paced parts."""
    quality: str
    first: int = 0
    """Number of the first pair: several processes share the pairs of a large run."""

    @property
    def sends(self) -> bool:
        """Whether this process is the one that begins."""
        return self.name in SENDING


class Line(Protocol):
    """One end of one pair."""

    async def send(self, payload: bytes) -> None:
        """Send one message, alone and at once."""

    async def flood(self, payload: bytes, count: int) -> None:
        """Send as quickly as the system's documentation says one can; return when everything was taken."""

    async def receive(self) -> Sequence[bytes]:
        """Wait for the next messages and acknowledge them."""

    async def ask(self, payload: bytes) -> None:
        """Send one message and wait for the other end's answer."""


Open = Callable[[Part, int, AsyncExitStack], Awaitable[Line]]
"""Opens the line of one pair, and leaves on the stack what closes it."""


async def flood(line: Line, part: Part, number: int) -> list[float]:
    """Send everything."""
    del number
    await line.flood(b"x" * part.size, part.count)
    return []


async def sink(line: Line, part: Part, number: int) -> list[float]:
    """Receive everything."""
    del number
    seen = 0
    while seen < part.count:
        seen += len(await line.receive())
    return []


async def ping(line: Line, part: Part, number: int) -> list[float]:
    """Return the seconds of each round trip, one message in flight."""
    del number
    payload, times = b"x" * part.size, []
    for _ in range(part.count):
        began = time.perf_counter()
        await line.ask(payload)
        times.append(time.perf_counter() - began)
    return times


async def pong(line: Line, part: Part, number: int) -> list[float]:
    """Answer every message."""
    del number
    payload, seen = b"x" * part.size, 0
    while seen < part.count:
        for _ in await line.receive():
            await line.send(payload)
            seen += 1
    return []


async def pace(line: Line, part: Part, number: int) -> list[float]:
    """Send one message alone every so often, with the time in it; the pairs take turns."""
    rest = b"x" * max(0, part.size - _STAMP.size)
    began = time.monotonic()
    for turn in range(part.count):
        await asyncio.sleep(max(0.0, began + (turn * part.pairs + number) / part.rate - time.monotonic()))
        await line.send(_STAMP.pack(time.monotonic()) + rest)
    return []


async def hear(line: Line, part: Part, number: int) -> list[float]:
    """Return the seconds each message took; CLOCK_MONOTONIC is one clock for all processes of a machine."""
    del number
    times: list[float] = []
    while len(times) < part.count:
        payloads = await line.receive()
        now = time.monotonic()
        times += [now - _STAMP.unpack_from(payload)[0] for payload in payloads]
    return times


PARTS = {"flood": flood, "sink": sink, "ping": ping, "pong": pong, "pace": pace, "hear": hear}


async def take_part(part: Part, open_line: Open) -> None:
    """Connect, say `ready`, wait for a line on the standard input, play the part, print what was measured as one line."""
    gate = asyncio.Semaphore(_CONNECTING)
    async with AsyncExitStack() as stack:

        async def connect(number: int) -> Line:
            async with gate:
                return await open_line(part, number, stack)

        async with asyncio.timeout(LONGEST):
            lines = await asyncio.gather(*(connect(part.first + number) for number in range(part.pairs)))
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
        began = time.monotonic()
        async with asyncio.timeout(LONGEST):
            times = await asyncio.gather(*(PARTS[part.name](line, part, number) for number, line in enumerate(lines)))
        ended = time.monotonic()
        print(json.dumps({"began": began, "ended": ended, "times": [each for few in times for each in few]}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)  # the other end may not be done yet


def arguments() -> Part:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["serve", *PARTS])
    parser.add_argument("--address", required=True)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--quality", default="ephemeral")
    parser.add_argument("--first", type=int, default=0)
    return Part(**vars(parser.parse_args()))


def main(open_line: Open, run: Callable[[Coroutine[Any, Any, None]], object] = asyncio.run) -> None:
    """Run one end as a program."""
    run(take_part(arguments(), open_line))

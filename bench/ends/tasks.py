"""What do who submits tasks and who works on them do, whichever queue is between them? Standard library only, see `parts`.

A task's text is the time it was submitted at. Who works on tasks tells who submits, over a socket of the benchmark and for every
system alike, when it had each in hand and when it was done with it; so no system is asked, and none pays for being asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from bench.ends.parts import LONGEST

PAUSE = 0.005
"""Seconds between two tasks where one is in flight."""
IN_FLIGHT = 32
"""Calls that wait for their answer at once, where each task has its own."""
BATCH = 500
"""Tasks of a call, where a system has calls for many."""
_DONE = struct.Struct("<ddd")


@dataclass(frozen=True, slots=True)
class Part:
    """What one process does."""

    name: str
    """`work`, or how is submitted: see PARTS."""
    address: str
    done: str
    """Socket at which who submits is told of what is done."""
    slots: int
    """Tasks that are worked on at once, where the system has a number for it."""
    count: int


class Submitter(Protocol):
    """Who gives tasks to the queue."""

    async def submit(self, text: str) -> None:
        """Submit one task by a call of its own; return when the queue says that it has it."""

    async def submit_many(self, texts: Sequence[str]) -> None:
        """Submit up to BATCH tasks as the system's documentation says one submits many; return when the queue has them."""


Open = Callable[[Part, AsyncExitStack], Awaitable[Submitter]]
"""Connects, and leaves on the stack what disconnects."""


class Tells(Protocol):
    """Who is told by those that work."""

    def tell(self, text: str, taken: float, ended: float) -> None:
        """Say when a task was in hand, and when it was done; in seconds of CLOCK_MONOTONIC."""


class Teller:
    """Tells who submits what is done."""

    def __init__(self, done: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(done)

    def tell(self, text: str, taken: float, ended: float) -> None:
        """Say when a task was in hand, and when it was done; in seconds of CLOCK_MONOTONIC."""
        self._socket.sendall(_DONE.pack(float(text), taken, ended))


class Told:
    """What was told."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        """Seconds from submitting each task to it being in hand, in the order of their ends."""
        self.ended = 0.0
        """When the last of them was done."""
        self._news = asyncio.Event()

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read what one worker tells."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                submitted, taken, ended = _DONE.unpack(await reader.readexactly(_DONE.size))
                self.taken.append(taken - submitted)
                self.ended = max(self.ended, ended)
                self._news.set()
        writer.close()

    async def wait(self, count: int) -> None:
        """Wait until so many are done."""
        while len(self.taken) < count:
            self._news.clear()
            await self._news.wait()


def stamp() -> str:
    """Return the text of a task that is submitted now."""
    return repr(time.monotonic())


async def one_in_flight(submitter: Submitter, told: Told, count: int) -> None:
    """Submit a task when the one before is done."""
    for number in range(count):
        await submitter.submit(stamp())
        await told.wait(number + 1)
        await asyncio.sleep(PAUSE)


async def one_by_one(submitter: Submitter, told: Told, count: int) -> None:
    """Submit each task by its own call, IN_FLIGHT of them waiting at once; wait for the end of all."""
    await only_one_by_one(submitter, told, count)
    await told.wait(count)


async def batched(submitter: Submitter, told: Told, count: int) -> None:
    """Submit many at once; wait for the end of all."""
    await only_batched(submitter, told, count)
    await told.wait(count)


async def only_one_by_one(submitter: Submitter, told: Told, count: int) -> None:
    """Submit each task by its own call; nobody works on them."""
    del told
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await submitter.submit(stamp())

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


async def only_batched(submitter: Submitter, told: Told, count: int) -> None:
    """Submit many at once; nobody works on them."""
    del told
    for first in range(0, count, BATCH):
        await submitter.submit_many([stamp() for _ in range(min(BATCH, count - first))])


PARTS = {
    "one-in-flight": one_in_flight,
    "one-by-one": one_by_one,
    "batched": batched,
    "only-one-by-one": only_one_by_one,
    "only-batched": only_batched,
}


async def take_part(part: Part, open_submitter: Open) -> None:
    """Connect, say `ready`, wait for a line, submit, print what was measured as one line, wait for another."""
    told = Told()
    async with AsyncExitStack() as stack:
        server = await asyncio.start_unix_server(told.read, part.done)
        stack.callback(server.close)
        submitter = await open_submitter(part, stack)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
        began = time.monotonic()
        async with asyncio.timeout(LONGEST):
            await PARTS[part.name](submitter, told, part.count)
        ended = time.monotonic() if part.name.startswith("only") else told.ended
        print(json.dumps({"began": began, "ended": ended, "times": told.taken}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)


def arguments() -> Part:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["work", *PARTS])
    parser.add_argument("--address", required=True)
    parser.add_argument("--done", required=True)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--count", type=int, default=1)
    return Part(**vars(parser.parse_args()))


def main(
    work: Callable[[Part], None],
    open_submitter: Open,
    run: Callable[[Coroutine[Any, Any, None]], object] = asyncio.run,
) -> None:
    """Run one end as a program: `work` until ended, or submit."""
    part = arguments()
    if part.name == "work":
        work(part)
        sys.exit()
    run(take_part(part, open_submitter))

"""What is a process here? The tasks that were begun in its name; a kill ends them all and lets none of them touch the world."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

from claude_conductor import ids
from claude_conductor.errors import StoreUnavailableError

EPOCH = 1_800_000_000.0
_CURRENT: ContextVar[Process | None] = ContextVar("process", default=None)


class Process:
    """One life of a program."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.ended = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine in the name of this process."""
        context = copy_context()
        context.run(_CURRENT.set, self)
        return asyncio.get_running_loop().create_task(work, name=f"{self.name}: {name}", context=context)

    def own(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self.alive:
            asyncio.get_running_loop().call_soon(task.cancel)

    def kill(self) -> None:
        """End it as kill -9 does: from now on nothing it does reaches anything."""
        self.alive = False
        self.ended.set()
        for task in tuple(self._tasks):
            task.cancel()

    def gate(self) -> None:
        """Pass here before every effect."""
        if not self.alive:
            raise asyncio.CancelledError


def task_factory(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """Give each task to the process that begins it."""
    context = options.get("context")
    process = context.get(_CURRENT) if context is not None and _CURRENT in context else _CURRENT.get()
    task = asyncio.Task(work, loop=loop, **options)
    if process is not None:
        process.own(task)
    return task


class Fate:
    """Everything a seed decides while a schedule runs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.faults = True
        """Off once the world is to come to rest."""

    def strikes(self, probability: float) -> bool:
        """Whether a fault of this probability happens now."""
        return self.random.random() < probability and self.faults

    def delay(self, longest: float = 0.004) -> float:
        """Return how long something takes, in seconds."""
        return self.random.random() * longest

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    async def pause(self, longest: float = 0.004) -> None:
        """Take no time, or some."""
        if self.chance(0.6):
            await asyncio.sleep(self.delay(longest))


class VirtualClock:
    """The time of the loop."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class SeededMint:
    """Ids in the order of time, from the seed."""

    def __init__(self, fate: Fate, clock: VirtualClock) -> None:
        self._fate = fate
        self._clock = clock

    def __call__(self, prefix: str, /) -> str:
        return prefix + self.raw().hex()

    def raw(self) -> bytes:
        return ids.uuid7(int(self._clock.now() * 1000), self._fate.random.getrandbits(74))


class Shaky:
    """A store as one process sees it: it takes time, it fails, before it did what was asked or afterwards.

    Args:
        inner: What is really stored.
        process: Who asks.
        fate: Says when it fails.
        failing: The probability of a failure.
        honest: Whether a failure says that nothing was done.
    """

    def __init__(self, inner: Any, process: Process, fate: Fate, failing: float, *, honest: bool = False) -> None:
        self._inner = inner
        self._process = process
        self._fate = fate
        self._failing = failing
        self._honest = honest

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any) -> Any:
            self._process.gate()
            await self._fate.pause()
            self._process.gate()
            if self._fate.strikes(self._failing):
                if not self._honest and self._fate.chance(0.5):
                    await method(*args)
                raise StoreUnavailableError("It failed as the seed said.")
            answer = await method(*args)
            if self._fate.chance(0.5):
                await self._fate.pause()
                self._process.gate()
            return answer

        self.__dict__[name] = call
        return call

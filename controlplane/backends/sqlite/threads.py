"""How does work that blocks leave the event loop, at the least cost per piece?

`loop.run_in_executor` makes two futures, a lock and a callback for each piece of work, which for a look at one row is more than
the look itself. Here a piece is an entry of a queue, and its answer one call back into the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = Callable[[], None]


class Threads:
    """A few threads that take jobs in the order they came. Not bounded: who gives them work waits for the answer."""

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def start(self, job: _Job) -> None:
        """Let a job be done; it raises nothing and tells its outcome itself."""
        self._jobs.put(job)

    async def call(self, function: Callable[[], _T]) -> _T:
        """Return what the function returns in one of the threads; cancelling the call does not stop it there."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def job() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = function()
            except BaseException as raised:  # noqa: BLE001 - it is raised where it is waited for
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(_answer, done, result, error)

        self.start(job)
        return await done

    def close(self) -> None:
        """Let the threads end once everything that was given to them is done, and wait for that."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # what it holds is not kept until the next one comes


def _answer(done: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if done.done():
        return  # its caller was cancelled
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)

"""Where do tasks run that outlive the call that began them?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Work:
    """Named background tasks of one asyncio.TaskGroup: one that fails ends the program, none is lost or forgotten."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self._whole: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Begin a piece of work."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def whole(self, work: Coroutine[Any, Any, _T], *, name: str) -> _T:
        """Do a piece of work to its end and return its result, even if who waits for it is cancelled meanwhile.

        What is stored and what follows from it belong together: a session that ends between the two would leave a message that
        nobody is told of, or a task whose lease is never freed.
        """
        task = asyncio.create_task(work, name=name)
        self._whole.add(task)
        task.add_done_callback(self._settled)
        return await asyncio.shield(task)

    async def settle(self, timeout: float) -> None:
        """Wait until all whole work is done, at most `timeout` seconds."""
        if self._whole:
            await asyncio.wait(set(self._whole), timeout=timeout)

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._whole.discard(task)
        if not task.cancelled():
            task.exception()  # its waiter has it too, unless it was cancelled: then nobody wants it

    def cancel(self) -> None:
        """Cancel everything that still goes on."""
        for task in tuple(self._tasks):
            task.cancel()

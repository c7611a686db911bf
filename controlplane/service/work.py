"""Where do tasks run that outlive the call that began them?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Work:
    """Named background tasks of one asyncio.TaskGroup: one that fails ends the program, none is lost or forgotten."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Begin a piece of work."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Cancel everything that still goes on."""
        for task in tuple(self._tasks):
            task.cancel()

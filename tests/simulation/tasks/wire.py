"""What is a session's stream here? Two queues that keep order, take time, and break."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.simulation.processes import Fate

CUT = object()
"""What the reader gets once it has noticed that the stream is gone."""
NOTICED = 1.0
"""Seconds until an end notices at the latest."""


class Wire:
    """One stream between a sidecar and a control plane."""

    def __init__(self, fate: Fate, cutting: float) -> None:
        self._fate = fate
        self._cutting = cutting
        self._queues: tuple[asyncio.Queue[Any], asyncio.Queue[Any]] = (asyncio.Queue(), asyncio.Queue())
        self.open = True

    def up(self, item: object) -> None:
        """Send to the control plane."""
        self._send(0, item)

    def down(self, item: object) -> None:
        """Send to the sidecar."""
        self._send(1, item)

    async def next_up(self) -> Any:
        """Return what comes next at the control plane."""
        return await self._next(0)

    async def next_down(self) -> Any:
        """Return what comes next at the sidecar."""
        return await self._next(1)

    def cut(self) -> None:
        """Lose what is under way; each end notices in its own time."""
        if not self.open:
            return
        self.open = False
        loop = asyncio.get_running_loop()
        for queue in self._queues:
            while not queue.empty():
                queue.get_nowait()
            loop.call_later(self._fate.delay(NOTICED), queue.put_nowait, CUT)

    def _send(self, way: int, item: object) -> None:
        if self._fate.strikes(self._cutting):
            self.cut()
        if self.open:
            self._queues[way].put_nowait(item)

    async def _next(self, way: int) -> Any:
        item = await self._queues[way].get()
        if item is not CUT:
            await self._fate.pause()
        return item

"""How does a day pass in a millisecond? An event loop whose time jumps to the next thing that is due.

No sockets, no threads, no sleeping. Callbacks run in the order asyncio promises; what a schedule varies are the delays of
whatever would be input or output, and those come from its seed, so a seed is a schedule.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

MOST_STEPS = 400_000


class Stuck(Exception):  # noqa: N818 - it says what is
    """Nothing will ever happen again, or something happens for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks; where there are none, it is later."""

    def __init__(self) -> None:
        super().__init__()
        self._time = 0.0
        self._steps = 0
        self.complaints: list[str] = []
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._time

    def wind_up(self) -> None:
        """Allow steps again after `Stuck`, so that what is left can be cancelled."""
        self._steps = 0

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not ready:
            if not scheduled:
                raise Stuck("nothing is ready and nothing is due")
            self._time = max(self._time, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._time:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(handle)
        self._steps += len(ready)
        if self._steps > MOST_STEPS:
            raise Stuck(f"more than {MOST_STEPS} steps")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
        handle = None

    def _process_events(self, event_list: object) -> None:
        raise NotImplementedError

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

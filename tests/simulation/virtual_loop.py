"""How does a day pass in a millisecond? An event loop whose time jumps to the next thing that is due.

No sockets, no threads, no sleeping. Callbacks run in the order asyncio promises; what a schedule varies are the delays of
whatever would be input or output, and those come from its seed, so a seed is a schedule.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

MOST_STEPS = 400_000


class Stuck(Exception):  # noqa: N818 - it says what is
    """Nothing will ever happen again, or something happens for ever."""


class _Handle:
    """A callback, as asyncio.TimerHandle is one, without what only debugging needs: handles are what a schedule costs most."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_loop", "_scheduled", "_when")

    def __init__(
        self, loop: VirtualLoop, callback: Callable[..., object], args: tuple[object, ...], context: Context | None, when: float
    ) -> None:
        self._loop = loop
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context if context is not None else copy_context()
        self._when = when
        self._cancelled = False
        self._scheduled = False

    def __lt__(self, other: object) -> bool:
        """Leave those that are due at the same moment as the heap has them."""
        return False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = None, ()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def run(self) -> None:
        """Call it; what it raises is a complaint, but for what ends the loop."""
        try:
            self._context.run(self._callback, *self._args)  # type: ignore[arg-type]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio.Handle does
            self._loop.call_exception_handler({"message": f"Exception in callback {self._callback}", "exception": error})


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

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(self, callback, args, context, 0.0)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(self, callback, args, context, when)
        heapq.heappush(self._scheduled, (when, handle))  # type: ignore[attr-defined]
        return handle

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0][1]._cancelled:
            heapq.heappop(scheduled)
        if not ready:
            if not scheduled:
                raise Stuck("nothing is ready and nothing is due")
            self._time = max(self._time, scheduled[0][0])
        while scheduled and scheduled[0][0] <= self._time:
            handle = heapq.heappop(scheduled)[1]
            if not handle._cancelled:
                ready.append(handle)
        self._steps += len(ready)
        if self._steps > MOST_STEPS:
            raise Stuck(f"more than {MOST_STEPS} steps")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle.run()
        handle = None

    def _process_events(self, event_list: object) -> None:
        raise NotImplementedError

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

"""Whether the agent still does something: says `stalled` when nothing was seen or heard of it for too long."""

from __future__ import annotations

import asyncio
from typing import Final

from agent_sidecar.run.hook import Run
from claude_conductor.clock import Clock

STALL_SECONDS: Final = 300.0


def stalled(run: Run, now: float, after: float) -> bool:
    """Decide whether a run is stalled: no output, call or processor time for `after` seconds, and no rate limit to wait for."""
    return run.limited_until <= now and now - run.last_life >= after


class WatchdogHook:
    """Watches signs of life. The bounds on start and duration are the runner's own.

    Args:
        clock: Tells the time.
        after: Seconds without a sign of life.
    """

    name = "watchdog"

    def __init__(self, clock: Clock, after: float = STALL_SECONDS) -> None:
        self._clock = clock
        self._after = after

    async def prepare(self, run: Run) -> None:
        """Begin to count."""
        run.last_life = self._clock.monotonic()

    async def during(self, run: Run) -> None:
        """Look again and again."""
        while True:
            run.stalled = stalled(run, self._clock.monotonic(), self._after)
            await asyncio.sleep(min(1.0, self._after / 4))

    async def finish(self, run: Run) -> None:
        """Nothing to take back."""

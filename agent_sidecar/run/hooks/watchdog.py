"""Whether the agent still does something: says `stalled` when nothing was seen or heard of it for too long."""

from __future__ import annotations

import asyncio

from agent_sidecar.run.hook import Run
from claude_conductor.clock import Clock


def stalled(run: Run, now: float, interval: float) -> bool:
    """Decide whether a run is stalled: no output, call or processor time for two intervals, and no rate limit to wait for."""
    return run.limited_until <= now and run.life.silent(now, interval)


class WatchdogHook:
    """Watches signs of life. The bounds on start and duration are the runner's own.

    Args:
        clock: Tells the time.
        interval: `agent.health_check_interval` in seconds.
    """

    name = "watchdog"

    def __init__(self, clock: Clock, interval: float) -> None:
        self._clock = clock
        self._interval = interval

    async def prepare(self, run: Run) -> None:
        """Begin to count."""
        run.life.last = self._clock.monotonic()

    async def during(self, run: Run) -> None:
        """Look again and again."""
        while True:
            run.stalled = stalled(run, self._clock.monotonic(), self._interval)
            await asyncio.sleep(min(1.0, self._interval / 4))

    async def finish(self, run: Run) -> None:
        """Nothing to take back."""

"""What a run uses: the kernel's numbers every second, the model's as the agent or the gateway tells them."""

from __future__ import annotations

import asyncio
from typing import Final

from agent_sidecar.drivers.driver import TokenUse
from agent_sidecar.run.hook import Run
from agent_sidecar.run.task import Usage
from claude_conductor.clock import Clock

_EVERY: Final = 1.0
_IDLE_SECONDS: Final = 0.02
"""Processor seconds since the last sign of life of this kind that count as the next."""


def usage_of(run: Run, clock: Clock) -> Usage:
    """Return the use so far."""
    tokens = run.tokens if run.tokens != TokenUse() else run.gateway_tokens
    return Usage(
        wall_seconds=clock.monotonic() - run.began,
        cpu_seconds=run.stats.cpu_seconds,
        memory_peak_bytes=run.stats.memory_peak_bytes,
        throttled_seconds=run.stats.throttled_seconds,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_tokens=tokens.cache_write_tokens,
        turns=tokens.turns,
        cost_usd=tokens.cost_usd,
    )


class UsageHook:
    """Reads the statistics of the sandbox.

    Args:
        clock: Tells the time.
        every: Seconds between two looks.
    """

    name = "usage"

    def __init__(self, clock: Clock, every: float = _EVERY) -> None:
        self._clock = clock
        self._every = every

    async def prepare(self, run: Run) -> None:
        """Nothing to do."""

    async def during(self, run: Run) -> None:
        """Look again and again."""
        used = 0.0
        while run.handle is not None:
            run.stats = await run.handle.stats()
            if run.stats.cpu_seconds - used > _IDLE_SECONDS:
                used = run.stats.cpu_seconds
                run.life.last = self._clock.monotonic()
            await asyncio.sleep(self._every)

    async def finish(self, run: Run) -> None:
        """Read the last numbers."""
        if run.handle is not None:
            run.stats = await run.handle.stats()

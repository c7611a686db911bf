"""What a run uses: the kernel's numbers every second, the model's as the agent or the gateway tells them."""

from __future__ import annotations

import asyncio
from typing import Final

from agent_sidecar.run import spending
from agent_sidecar.run.hook import Run
from agent_sidecar.run.purse import over
from agent_sidecar.run.reports import Reports
from agent_sidecar.run.task import Cancellation, FailureKind, Usage
from claude_conductor.clock import Clock

_EVERY: Final = 1.0
_GRACE: Final = 5.0
"""Seconds for an agent to end by itself that used too much."""
_TOLD_EVERY: Final = 10.0
_IDLE_SECONDS: Final = 0.02
"""Processor seconds since the last sign of life of this kind that count as the next."""


def usage_of(run: Run, clock: Clock) -> Usage:
    """Return the use so far.

    Tokens and cost are the gateway's where it counted any, since it sees what the provider says; else what the agent says.
    Turns are the agent's own where it tells them: it also asks for titles and the like.
    """
    tokens = spending.tokens(run.spent) if run.spent else run.tokens
    models = spending.as_told(run.spent)
    return Usage(
        wall_seconds=clock.monotonic() - run.began,
        cpu_seconds=run.stats.cpu_seconds,
        memory_peak_bytes=run.stats.memory_peak_bytes,
        throttled_seconds=run.stats.throttled_seconds,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_tokens=tokens.cache_write_tokens,
        turns=run.tokens.turns or tokens.turns,
        cost_usd=tokens.cost_usd,
        models=models,
        unpriced_tokens=sum(model.unpriced_tokens for model in models) if models else spending.unpriced(tokens),
    )


class UsageHook:
    """Reads the statistics of the sandbox, and reports what the models used before somebody is lost who could tell it later.

    Args:
        reports: Told of the use so far, while it grows.
        clock: Tells the time.
        every: Seconds between two looks.
        told_every: Seconds between two reports.
    """

    name = "usage"

    def __init__(self, reports: Reports, clock: Clock, every: float = _EVERY, told_every: float = _TOLD_EVERY) -> None:
        self._reports = reports
        self._clock = clock
        self._every = every
        self._told_every = told_every

    async def prepare(self, run: Run) -> None:
        """Nothing to do."""

    async def during(self, run: Run) -> None:
        """Look again and again."""
        told: spending.Spent = {}
        used, tell_at = 0.0, self._clock.monotonic()
        while run.handle is not None:
            run.stats = await run.handle.stats()
            if run.stats.cpu_seconds - used > _IDLE_SECONDS:
                used = run.stats.cpu_seconds
                run.life.last = self._clock.monotonic()
            if not run.spent and (words := over(run.assignment.allowance, usage_of(run, self._clock))):
                run.over_budget = words
                run.end(Cancellation(_GRACE, words, FailureKind.BUDGET))
            if run.spent != told and self._clock.monotonic() >= tell_at:
                told, tell_at = run.spent, self._clock.monotonic() + self._told_every
                await self._reports.used(run.assignment.lease, usage_of(run, self._clock))
            await asyncio.sleep(self._every)

    async def finish(self, run: Run) -> None:
        """Read the last numbers."""
        if run.handle is not None:
            run.stats = await run.handle.stats()

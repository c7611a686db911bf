"""The agent's way to its model provider: opened for agents that need it, with the key left in the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from agent_sidecar.gateway.price import Prices
from agent_sidecar.gateway.usage import Usage
from agent_sidecar.run.hook import Run
from agent_sidecar.run.reports import Reports
from agent_sidecar.run.spending import spent_more
from claude_conductor.clock import Clock
from claude_conductor.errors import SettingsError
from claude_conductor.units import format_duration

_LONGER: Final = 1.0
"""Seconds by which a rate limit has to grow to be told at once."""
_OVER: Final = 0.001
"""Seconds that are as good as none."""


class OpenGateway(Protocol):
    """A gateway that serves one run."""

    async def close(self) -> None:
        """End it and remove its socket. Idempotent."""


class GatewayOpener(Protocol):
    """Opens the gateway's socket beside the agent's."""

    async def __call__(self, on_usage: Callable[[Usage], None], on_rate_limit: Callable[[float], None], /) -> OpenGateway:
        """Return a gateway that serves; tells the tokens of each answer, and seconds of rate limits."""


class CredentialsHook:
    """Opens the model gateway.

    Args:
        open_gateway: Opens it; None where no key for the provider is set.
        clock: Tells the time.
        reports: Told of rate limits.
        prices: Of models.
    """

    name = "credentials"

    def __init__(self, open_gateway: GatewayOpener | None, clock: Clock, reports: Reports, prices: Prices) -> None:
        self._open = open_gateway
        self._prices = prices
        self._clock = clock
        self._reports = reports
        self._news = asyncio.Event()
        self._gateway: OpenGateway | None = None

    async def prepare(self, run: Run) -> None:
        """Open it if the agent's kind needs it.

        Raises:
            SettingsError: No key is set.
        """
        if run.driver is None or not run.driver.capabilities.needs_gateway:
            return
        if self._open is None:
            raise SettingsError(
                "No API key for the model provider is set, and this kind of agent needs one.",
                next_step="start Conductor with ANTHROPIC_API_KEY set, or set `provider.api_key_file`",
                driver=run.driver.name,
            )

        def count(answer: Usage) -> None:
            run.spent = spent_more(run.spent, answer, self._prices)
            run.life.last = self._clock.monotonic()

        def pause(seconds: float) -> None:
            now = self._clock.monotonic()
            until = now + seconds
            if run.limited_until <= now + _OVER or until > run.limited_until + _LONGER:
                self._news.set()
            run.limited_until = max(run.limited_until, until)

        self._gateway = await self._open(count, pause)

    async def during(self, run: Run) -> None:
        """Tell of rate limits as they begin, grow and end; the gateway serves by itself."""
        limited = False
        while True:
            self._news.clear()
            left = run.limited_until - self._clock.monotonic()
            if left > _OVER:
                limited = True
                why = f"the model provider answered 429: it takes requests again in {format_duration(left)}"
                await self._reports.rate_limited(run.assignment.lease, left, why)
            elif limited:
                limited = False
                await self._reports.rate_limit_ended(run.assignment.lease)
            with suppress(TimeoutError):
                async with asyncio.timeout(left if limited else None):
                    await self._news.wait()

    async def finish(self, run: Run) -> None:
        """Close it."""
        if self._gateway is not None:
            gateway, self._gateway = self._gateway, None
            await gateway.close()

"""The agent's way to its model provider: opened for agents that need it, with the key left in the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from agent_sidecar.gateway.price import Prices
from agent_sidecar.gateway.purse import Purse
from agent_sidecar.gateway.usage import Usage
from agent_sidecar.run.hook import Run
from agent_sidecar.run.hooks.usage import usage_of
from agent_sidecar.run.purse import RunPurse
from agent_sidecar.run.reports import Reports
from agent_sidecar.run.spending import spent_more
from agent_sidecar.run.task import Cancellation, FailureKind
from claude_conductor.clock import Clock
from claude_conductor.errors import SettingsError
from claude_conductor.units import format_duration

_LONGER: Final = 1.0
"""Seconds by which a rate limit has to grow to be told at once."""
LAST_WORDS: Final = 30.0
_END_GRACE: Final = 5.0
_OVER: Final = 0.001
"""Seconds that are as good as none."""


class OpenGateway(Protocol):
    """A gateway that serves one run."""

    async def close(self) -> None:
        """End it and remove its socket. Idempotent."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a gateway tells of its agent's requests."""

    usage: Callable[[Usage], None]
    """Tokens of an answer."""
    limited: Callable[[float], None]
    """The provider takes no requests for some seconds, as it said to this agent."""
    held: Callable[[float], None]
    """A request waits for some seconds."""
    taken: Callable[[], None]
    """The provider answered otherwise than by a rate limit."""
    purse: Purse | None = None
    """Asked before each call; None: nothing is limited."""


class GatewayOpener(Protocol):
    """Opens the gateway's socket beside the agent's."""

    async def __call__(self, told: Told, /) -> OpenGateway:
        """Return a gateway that serves."""


class CredentialsHook:
    """Opens the model gateway.

    Args:
        open_gateway: Opens it; None where no key for the provider is set.
        clock: Tells the time.
        reports: Told of rate limits.
        prices: Of models.
        credential: Id of the key.
        last_words: Seconds in which an agent whose budget is used up may end by itself.
    """

    name = "credentials"

    def __init__(
        self,
        open_gateway: GatewayOpener | None,
        clock: Clock,
        reports: Reports,
        prices: Prices,
        credential: str = "",
        last_words: float = LAST_WORDS,
    ) -> None:
        self._credential = credential
        self._said_until = 0.0
        self._said_news = False
        self._open = open_gateway
        self._prices = prices
        self._clock = clock
        self._reports = reports
        self._news = asyncio.Event()
        self._gateway: OpenGateway | None = None
        self._last_words = last_words
        self._end: asyncio.TimerHandle | None = None

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

        def wait(seconds: float) -> None:
            until = self._clock.monotonic() + seconds
            run.refused = True
            if self._is_news(until, run.limited_until):
                self._news.set()
            run.limited_until = max(run.limited_until, until)

        def limit(seconds: float) -> None:
            until = self._clock.monotonic() + seconds
            if self._is_news(until, self._said_until):
                self._said_news = True
                self._news.set()
            self._said_until = max(self._said_until, until)
            wait(seconds)

        def take() -> None:
            run.refused = False

        self._said_until, self._said_news = 0.0, False
        self._gateway = await self._open(Told(count, limit, wait, take, self._purse(run)))

    def _purse(self, run: Run) -> RunPurse | None:
        """Return the budget of the run; an agent that does not end by itself when a call is refused is ended."""
        assignment = run.assignment
        if not assignment.allowance.of_models:
            return None

        def refused(why: str) -> None:
            if not run.over_budget:
                run.over_budget = why
                end = Cancellation(_END_GRACE, why, FailureKind.BUDGET)
                self._end = asyncio.get_running_loop().call_later(self._last_words, run.end, end)

        return RunPurse(
            assignment.lease,
            assignment.allowance,
            self._prices,
            lambda: usage_of(run, self._clock),
            self._reports,
            refused,
        )

    def _is_news(self, until: float, known: float) -> bool:
        return known <= self._clock.monotonic() + _OVER or until > known + _LONGER

    async def during(self, run: Run) -> None:
        """Tell of rate limits as they begin, grow and end; the gateway serves by itself."""
        limited = False
        while True:
            self._news.clear()
            left = run.limited_until - self._clock.monotonic()
            if left > _OVER:
                limited = True
                await self._tell(run, left)
            elif limited:
                limited = False
                await self._reports.rate_limit_ended(run.assignment.lease)
            with suppress(TimeoutError):
                async with asyncio.timeout(left if limited else None):
                    await self._news.wait()

    async def _tell(self, run: Run, left: float) -> None:
        """Tell what the provider said here, and, where that is later, when it is this sidecar's turn."""
        lease, said = run.assignment.lease, self._said_until - self._clock.monotonic()
        if self._said_news:
            self._said_news = False
            why = f"the model provider answered 429: it takes requests again in {format_duration(max(0.0, said))}"
            await self._reports.rate_limited(lease, max(0.0, said), why, self._credential)
        if left > said + _OVER:
            why = f"the model provider answered 429 to this key: the turn of this agent is in {format_duration(left)}"
            await self._reports.rate_limited(lease, left, why, "")

    async def finish(self, run: Run) -> None:
        """Close it."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._gateway is not None:
            gateway, self._gateway = self._gateway, None
            await gateway.close()

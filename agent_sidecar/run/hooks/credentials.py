"""The agent's way to its model provider: opened for agents that need it, with the key left in the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent_sidecar.drivers.driver import TokenUse
from agent_sidecar.run.hook import Run
from claude_conductor.clock import Clock
from claude_conductor.errors import SettingsError


class OpenGateway(Protocol):
    """A gateway that serves one run."""

    async def close(self) -> None:
        """End it and remove its socket. Idempotent."""


class GatewayOpener(Protocol):
    """Opens the gateway's socket beside the agent's."""

    async def __call__(
        self, on_usage: Callable[[int, int, int, int], None], on_rate_limit: Callable[[float], None], /
    ) -> OpenGateway:
        """Return a gateway that serves; tells input, output, cache read and cache write tokens, and seconds of rate limits."""


class CredentialsHook:
    """Opens the model gateway.

    Args:
        open_gateway: Opens it; None where no key for the provider is set.
        clock: Tells the time.
    """

    name = "credentials"

    def __init__(self, open_gateway: GatewayOpener | None, clock: Clock) -> None:
        self._open = open_gateway
        self._clock = clock
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

        def count(read: int, written: int, cache_read: int, cache_write: int) -> None:
            run.gateway_tokens = added(run.gateway_tokens, read, written, cache_read, cache_write)
            run.life.last = self._clock.monotonic()

        def pause(seconds: float) -> None:
            run.limited_until = max(run.limited_until, self._clock.monotonic() + seconds)

        self._gateway = await self._open(count, pause)

    async def during(self, run: Run) -> None:
        """Nothing to do: the gateway serves by itself."""

    async def finish(self, run: Run) -> None:
        """Close it."""
        if self._gateway is not None:
            gateway, self._gateway = self._gateway, None
            await gateway.close()


def added(so_far: TokenUse, read: int, written: int, cache_read: int, cache_write: int) -> TokenUse:
    """Return the totals after one more answer of the provider; each answer counts as a turn."""
    return TokenUse(
        input_tokens=so_far.input_tokens + read,
        output_tokens=so_far.output_tokens + written,
        cache_read_tokens=so_far.cache_read_tokens + cache_read,
        cache_write_tokens=so_far.cache_write_tokens + cache_write,
        turns=so_far.turns + 1,
    )

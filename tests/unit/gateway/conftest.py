from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_sidecar.gateway.door import Door, open_gateway
from agent_sidecar.gateway.hold import Hold
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import Provider, provider_at
from agent_sidecar.gateway.usage import Usage
from claude_conductor.clock import SystemClock
from claude_conductor.settings.secret import Secret

REAL_KEY = "sk-real-key"


@dataclass
class Opened:
    """A gateway that serves, and what it told."""

    path: Path
    usage: list[Usage] = field(default_factory=list)
    rate_limits: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request waits for a rate limit."""
    taken: list[None] = field(default_factory=list)
    hold: Hold = field(default_factory=lambda: Hold(SystemClock(), 16))

    def on_hold(self, seconds: float) -> None:
        self.held.append(seconds)
        self.waiting.set()


Opener = Callable[..., contextlib.AbstractAsyncContextManager[Opened]]


@pytest.fixture(autouse=True)
def _no_mistakes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail where a connection ended by a mistake of the gateway's own."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelname == "ERROR"] == []


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Open a gateway to a base URL or provider."""

    @contextlib.asynccontextmanager
    async def opener(to: str | Provider, limits: GatewayLimits | None = None) -> AsyncIterator[Opened]:
        provider = provider_at(to, Secret(REAL_KEY)) if isinstance(to, str) else to
        opened = Opened(tmp_path_factory.mktemp("g") / "model.sock")
        serving = await open_gateway(
            Door(
                opened.path,
                provider,
                opened.usage.append,
                opened.rate_limits.append,
                SystemClock(),
                limits or GatewayLimits(),
                hold=opened.hold,
                on_hold=opened.on_hold,
                on_taken=lambda: opened.taken.append(None),
            )
        )
        try:
            yield opened
        finally:
            await serving.close()

    return opener

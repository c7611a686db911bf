"""A provider's rate limit is told of when it begins, grows and ends; hammering at it tells nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent_sidecar.drivers.driver import Capabilities
from agent_sidecar.isolation.interface import Level, Limits
from agent_sidecar.run.hook import Run
from agent_sidecar.run.hooks import credentials
from agent_sidecar.run.hooks.credentials import CredentialsHook
from agent_sidecar.run.task import Assignment, Lease
from claude_conductor.clock import SystemClock

LEASE = Lease("task_1", 1, 1)


@dataclass
class Told:
    """What was reported, and a gateway that says what a test wants said."""

    reports: asyncio.Queue[tuple[str, float]] = field(default_factory=asyncio.Queue)
    limit: Callable[[float], None] = lambda _: None
    gateway: credentials.Told | None = None

    async def rate_limited(self, lease: Lease, seconds: float, why: str, credential: str) -> None:
        assert (lease, "429" in why) == (LEASE, True)
        assert credential in {"", "key-1"}
        self.reports.put_nowait(("limited" if credential else "turn", seconds))

    async def rate_limit_ended(self, lease: Lease) -> None:
        assert lease == LEASE
        self.reports.put_nowait(("ended", 0.0))

    async def next(self) -> tuple[str, float]:
        async with asyncio.timeout(10):
            return await self.reports.get()

    async def open(self, told: credentials.Told, /) -> Told:
        self.gateway, self.limit = told, told.limited
        return self

    async def close(self) -> None:
        """Nothing is open."""


class _Driver:
    name = "model"
    capabilities = Capabilities(needs_gateway=True)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Told, Run]]:
    told = Told()
    hook = CredentialsHook(told.open, SystemClock(), told, {}, "key-1")  # type: ignore[arg-type]  # of the reports, those about limits
    run = Run(Assignment(LEASE, "task/task_1"), "run", Level.STRICT, Limits(), 0.0)
    run.driver = _Driver()  # type: ignore[assignment]  # as much of one as the hook looks at
    await hook.prepare(run)
    during = asyncio.create_task(hook.during(run), name="during")
    yield told, run
    during.cancel()
    await hook.finish(run)


async def test_a_limit_is_told_when_it_begins_and_when_it_ends() -> None:
    async with running() as (told, run):
        told.limit(0.05)
        what, seconds = await told.next()
        assert (what, 0 < seconds <= 0.05) == ("limited", True)
        assert await told.next() == ("ended", 0.0)
        assert run.limited_until <= SystemClock().monotonic()
        told.limit(0.05)
        assert [(await told.next())[0] for _ in range(2)] == ["limited", "ended"]


async def test_a_limit_that_grows_is_told_again_and_one_that_hardly_does_is_not() -> None:
    async with running() as (told, _):
        told.limit(60)
        assert (await told.next())[0] == "limited"
        for _ in range(1000):
            told.limit(60)
        told.limit(600)
        what, seconds = await told.next()
        assert (what, seconds > 590, told.reports.empty()) == ("limited", True, True)


async def test_the_reset_is_told_with_the_key_and_a_turn_after_it_without() -> None:
    async with running() as (told, _):
        assert told.gateway is not None
        told.gateway.held(30)  # somebody else with the same key ran into it
        assert (await told.next())[0] == "turn"
        told.gateway.limited(600)
        what, seconds = await told.next()
        assert (what, seconds > 590) == ("limited", True)
        told.gateway.held(605)
        what, seconds = await told.next()
        assert (what, seconds > 602, told.reports.empty()) == ("turn", True, True)


async def test_the_last_word_of_the_provider_decides_whether_a_limit_ended_the_attempt() -> None:
    async with running() as (told, run):
        assert told.gateway is not None
        for refuse in (told.gateway.limited, told.gateway.held):
            refuse(0.01)
            assert run.refused
            told.gateway.taken()
            assert not run.refused

"""What is stored has its effects, even if who asked for it is gone before they happened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from claude_conductor.clock import SystemClock
from claude_conductor.errors import TaskNotFoundError
from claude_conductor.ids import DEFAULT_TENANT
from controlplane.domain.message import Accepted, Header, IncomingFrame, Outcome, Quality
from controlplane.domain.routing import Bounds, Shape
from controlplane.service.passing import Passing
from controlplane.service.publishing import Publishing
from controlplane.service.relay import Offer, Relay
from controlplane.service.work import Work
from tests.fakes.gates import Open, Unlimited

IDS = bytes(range(16))


class GatedStore:
    """A mailbox store whose commit takes until the gate opens."""

    def __init__(self) -> None:
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        self.asked.set()
        await self.gate.wait()
        return [Accepted(1) for _ in frames]


class ToldMail:
    def __init__(self) -> None:
        self.told = asyncio.Event()

    def stored(self, frame: IncomingFrame, first_position: int) -> None:
        assert (frame.mailbox, first_position) == ("default/b", 1)
        self.told.set()


class Ignoring:
    def expect_message(self, _: float) -> None:
        return None


async def test_a_message_whose_sender_goes_away_during_the_commit_is_still_delivered():
    store, mail = GatedStore(), ToldMail()
    async with asyncio.TaskGroup() as group:
        relay = Relay(
            *(store, mail, Open(), None, None, Ignoring(), SystemClock(), Bounds(1000, 16, 60_000), Work(group)),  # type: ignore[arg-type]
            publishing=Publishing(*[None] * 8),  # type: ignore[arg-type]
            passing=Passing(*[None] * 6),  # type: ignore[arg-type]
            rates=Unlimited(),  # type: ignore[arg-type]
            permissions=Open(),  # type: ignore[arg-type]
        )
        header = Header("b", "t", Quality.DURABLE, 0, 0, IDS)
        accepting = asyncio.create_task(relay.accept([Offer(DEFAULT_TENANT, "agent/a", header, Shape(1, 10), b"frame")]))
        await store.asked.wait()

        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        store.gate.set()

        async with asyncio.timeout(2):
            await mail.told.wait()


async def test_whole_work_ends_although_its_waiter_was_cancelled_and_settle_waits_for_it():
    gate, done = asyncio.Event(), []

    async def slow() -> str:
        await gate.wait()
        done.append(True)
        return "result"

    async with asyncio.TaskGroup() as group:
        work = Work(group)
        waiter = asyncio.create_task(work.whole(slow(), name="slow"))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not done
        gate.set()
        await work.settle(2)

    assert done == [True]


async def test_whole_work_hands_its_error_to_its_waiter_and_a_missing_waiter_harms_nobody():
    async def fail() -> None:
        await asyncio.sleep(0)
        raise TaskNotFoundError(task_id="x")

    async with asyncio.TaskGroup() as group:
        work = Work(group)
        with pytest.raises(TaskNotFoundError):
            await work.whole(fail(), name="fails")
        waiter = asyncio.create_task(work.whole(fail(), name="fails alone"))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        await work.settle(2)

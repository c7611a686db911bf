"""A receiver without a sidecar goes on from its cursor, hears of what it missed, and costs a page however slowly it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.domain.message import Receipt, State, StoredFrame
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.service.post import Gap, Moving, Post
from controlplane.service.pulse import Pulse
from tests.contract.samples import BOX, START_MS, HandClock, frame, message_id


class Mailboxes(MemoryMailboxStore):
    """Counts what is read."""

    read_bytes = 0

    async def read(self, mailbox: str, after_position: int, max_bytes: int) -> Sequence[StoredFrame]:
        found = await super().read(mailbox, after_position, max_bytes)
        self.read_bytes += sum(len(each.frame) for each in found)
        return found


class World:
    """A post office with its store."""

    def __init__(self) -> None:
        self.store, self.arrived, self.clock = Mailboxes(MailboxLimits()), Pulse(), HandClock()
        self.post = Post(self.store, self.arrived, self.clock)

    async def send(self, *numbers: int, size: int = 10, **changes: Any) -> None:
        await self.store.append([frame(number, frame=b"x" * size, **changes) for number in numbers])
        self.arrived.beat(BOX)


@pytest.fixture
def world() -> World:
    return World()


async def take(stream: AsyncGenerator[Any, None], count: int) -> list[Any]:
    """Return gaps, moves and positions until there are so many."""
    found: list[Any] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            item = await anext(stream)
            found += [each.first_position for each in item[1]] if isinstance(item, tuple) else [item]
    return found


async def test_what_is_there_comes_first_and_what_follows_as_it_comes(world: World) -> None:
    await world.send(1, 2)
    async with aclosing(world.post.receive(BOX, None)) as stream:
        assert await take(stream, 2) == [1, 2]
        coming = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        await world.send(3)
        assert await coming == [3]
    ((record, _),) = await world.store.find("default", message_id(1))
    assert (record.state, record.attempts) == (State.SEEN, 1)


async def test_a_cursor_goes_on_without_loss_or_repeat(world: World) -> None:
    await world.send(*range(1, 6))
    async with aclosing(world.post.receive(BOX, 3)) as stream:
        assert await take(stream, 2) == [4, 5]
    async with aclosing(world.post.receive(BOX, 5)) as stream:
        coming = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        await world.send(6)
        assert await coming == [6]
    async with aclosing(world.post.receive(BOX, 0)) as stream:
        assert await take(stream, 1) == [1, 2, 3, 4, 5, 6]


async def test_what_ended_behind_the_cursor_is_an_explicit_gap(world: World) -> None:
    await world.send(*range(1, 6))
    await world.store.record(BOX, [Receipt(2, 4, State.ACKED)], START_MS)
    async with aclosing(world.post.receive(BOX, 1)) as stream:
        assert await take(stream, 2) == [Gap(2, 4), 5]
    await world.store.record(BOX, [Receipt(1, 5, State.ACKED)], START_MS)
    async with aclosing(world.post.receive(BOX, 1)) as stream:
        assert await take(stream, 1) == [Gap(2, 5)]
    async with aclosing(world.post.receive(BOX, None)) as stream:
        coming = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        await world.send(6)
        assert await coming == [6]


async def test_a_gap_may_end_inside_a_frame(world: World) -> None:
    await world.store.append([frame(1, 2, 3, 4)])
    await world.store.record(BOX, [Receipt(1, 2, State.ACKED)], START_MS)
    async with aclosing(world.post.receive(BOX, 0)) as stream:
        assert (await take(stream, 2))[0] == Gap(1, 2)
    async with aclosing(world.post.receive(BOX, 2)) as stream:
        cursor, (only,) = await anext(stream)  # type: ignore[misc]
        assert (cursor, only.first_position, only.settled) == (2, 1, frozenset({1, 2}))


async def test_a_cursor_beyond_what_exists_is_a_gap_and_begins_anew(world: World) -> None:
    await world.send(1, 2)
    async with aclosing(world.post.receive(BOX, 500)) as stream:
        assert await take(stream, 3) == [Gap(3, 500), 1, 2]


async def test_a_message_whose_time_is_over_is_not_shown_and_holds_up_nothing(world: World) -> None:
    await world.send(1, expire_time_ms=START_MS)
    await world.send(2)
    async with aclosing(world.post.receive(BOX, None)) as stream:
        assert await take(stream, 1) == [2]


async def test_a_receiver_that_does_not_take_reads_one_page(world: World) -> None:
    await world.send(*range(100), size=100_000)
    async with aclosing(world.post.receive(BOX, None)) as stream:
        await anext(stream)
        await asyncio.sleep(0)
        assert world.store.read_bytes <= 256 << 10


async def test_who_receives_is_told_when_the_control_plane_stops(world: World) -> None:
    async with aclosing(world.post.receive(BOX, None)) as stream:
        coming = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        world.post.drain()
        assert await coming == [Moving()]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    async with aclosing(world.post.receive(BOX, None)) as stream:
        assert await take(stream, 1) == [Moving()]
    assert len(world.arrived) == 0

"""Receiving messages, and dead letters, through the asynchronous client."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from claude_conductor.client import Conductor
from claude_conductor.v1 import event_pb2, message_pb2, message_service_pb2
from tests.fakes.operator_services import TOKEN, World, serving


@pytest.fixture
def world() -> World:
    made = World()
    made.mailbox = [
        message_service_pb2.ReceivedMessage(position=position, sender="agent/a", envelope={"id": f"msg_{position}"})
        for position in (1, 2, 3, 5, 6)
    ]
    return made


@pytest.fixture
async def conductor(world: World) -> AsyncIterator[Conductor]:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        async with serving(Path(folder) / "run" / "control.sock", world) as address, Conductor.connect(address, TOKEN) as client:
            yield client


async def receive(conductor: Conductor, count: int, **how: object) -> list[int]:
    positions: list[int] = []
    async with asyncio.timeout(20), aclosing(conductor.messages.receive(**how)) as stream:  # type: ignore[arg-type]
        async for message in stream:
            positions.append(message.position)
            if len(positions) == count:
                break
    return positions


async def test_what_comes_is_received_once_however_often_the_stream_breaks(conductor: Conductor, world: World):
    world.break_streams_after = 2

    assert await receive(conductor, 5) == [1, 2, 3, 5, 6]
    assert world.opened == ["receive", "receive 2", "receive 5"]


async def test_receiving_goes_on_behind_a_cursor(conductor: Conductor, world: World):
    assert await receive(conductor, 2, after=3) == [5, 6]


async def test_a_receiver_that_is_asked_to_move_connects_again_and_goes_on(conductor: Conductor, world: World):
    world.moves = 1
    received: list[int] = []
    async with asyncio.timeout(20), aclosing(conductor.messages.receive()) as stream:
        async for message in stream:
            received.append(message.position)
            if message.position == 6 and len(world.mailbox) == 5:
                world.mailbox.append(message_service_pb2.ReceivedMessage(position=7))
            if message.position == 7:
                break

    assert received == [1, 2, 3, 5, 6, 7]


async def test_a_gap_is_told_and_receiving_goes_on(conductor: Conductor, world: World):
    world.gap = event_pb2.Gap(**{"from": 7, "to": 99})
    gaps: list[event_pb2.Gap] = []

    assert await receive(conductor, 2, after=99, on_gap=gaps.append) == [1, 2]
    assert [(getattr(gap, "from"), gap.to) for gap in gaps] == [(7, 99)]


async def test_a_gap_nobody_asked_about_is_logged(conductor: Conductor, world: World, caplog: pytest.LogCaptureFixture):
    world.gap = event_pb2.Gap(**{"from": 7, "to": 99})
    with caplog.at_level(logging.WARNING):
        await receive(conductor, 1, after=99)

    assert "messages were missed" in caplog.text


async def test_dead_letters_are_named_a_thousand_at_a_time(conductor: Conductor, world: World):
    world.dead = [message_pb2.MessageRecord(message_id=f"msg_{number}") for number in range(1500)]
    names = [f"msg_{number}" for number in range(1501)]
    outcomes = await conductor.messages.redrive(names, recipient="agent-1", request_id="why")

    assert [outcome.reason for outcome in outcomes] == [""] * 1500 + ["MESSAGE_NOT_DEAD"]
    assert [(len(asked.message_ids), asked.recipient, asked.request_id) for asked in world.wishes] == [
        (1000, "agent-1", "why"),
        (501, "agent-1", "why"),
    ]
    assert len(await conductor.messages.purge(["msg_1"])) == 1

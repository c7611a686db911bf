"""An answer goes to whoever waits for it, and only there; what is too late is not shown, or like any message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_sidecar.local.asking import ask, patience
from agent_sidecar.uplink.inbox import Inbox
from claude_conductor.clock import SystemClock
from claude_conductor.errors import AgentNotFoundError, DeadlineExceededError, InvalidArgumentError
from claude_conductor.v1 import local_service_pb2, message_pb2
from tests.fakes.boxes import Boxes, delivery

BOX = "agent-1"


class Clock:
    """Moved by hand."""

    time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def boxes(tmp_path: Path, clock: Clock) -> AsyncIterator[Boxes]:
    made = Boxes(tmp_path / "journal.db", clock=clock)
    await made.open()
    yield made
    await made.close()


async def texts(inbox: Inbox, wait: float = 0.0) -> list[str]:
    return [message.envelope.id for message in await inbox.fetch(10, wait)]


async def states(boxes: Boxes) -> dict[int, int]:
    return {
        position: receipt.state
        for request in await boxes.wire()
        for receipt in request.receipts.receipts
        for position in range(receipt.from_position, receipt.to_position + 1)
    }


async def test_an_answer_goes_to_who_waits_for_it_and_others_keep_their_order(boxes: Boxes):
    inbox = boxes.inbox
    await inbox.deliver(delivery(BOX, 1, "before"))
    with inbox.expecting("msg_q"):
        waiting = asyncio.create_task(inbox.reply("msg_q", 5, bounces=True))
        fetching = asyncio.create_task(inbox.fetch(10, 5))
        assert [message.envelope.id for message in await fetching] == ["before"]
        fetching = asyncio.create_task(inbox.fetch(10, 5))
        await inbox.deliver(delivery(BOX, 2, "answer", answers="msg_q"))
        reply = await waiting
        assert reply is not None
        assert (reply.envelope.id, reply.position, reply.mailbox, reply.sender) == ("answer", 2, BOX, "agent/x")
        await inbox.deliver(delivery(BOX, 3, "other", answers="msg_else"))
        assert [message.envelope.id for message in await fetching] == ["other"]
    assert await texts(inbox) == []
    await inbox.acknowledge(BOX, [2])
    assert (await states(boxes))[2] == message_pb2.MESSAGE_STATE_ACKED


async def test_an_answer_that_came_first_or_ephemerally_is_one_too(boxes: Boxes):
    inbox = boxes.inbox
    with inbox.expecting("msg_q"):
        await inbox.deliver(delivery(BOX, 1, "a", answers="msg_q"))
        assert await texts(inbox) == []
        reply = await inbox.reply("msg_q", 0, bounces=True)
        assert reply is not None
    with inbox.expecting("msg_r"):
        await inbox.deliver(delivery(BOX, 0, "b", answers="msg_r"))
        reply = await inbox.reply("msg_r", 0, bounces=True)
        assert reply is not None
        assert (reply.envelope.id, reply.position) == ("b", 0)
    assert await texts(inbox) == []


async def test_a_late_answer_is_a_message_like_any_other(boxes: Boxes):
    inbox = boxes.inbox
    with inbox.expecting("msg_q"):
        assert await inbox.reply("msg_q", 0.01, bounces=True) is None
        await inbox.deliver(delivery(BOX, 1, "late", answers="msg_q"))
        assert await texts(inbox) == []
        fetching = asyncio.create_task(texts(inbox, 5))
        await asyncio.sleep(0)
    assert await fetching == ["late"]


async def test_who_repeats_a_request_gets_the_answer_an_earlier_call_lost_until_it_is_acknowledged(boxes: Boxes):
    inbox = boxes.inbox
    for _ in range(2):
        with inbox.expecting("msg_q"):
            await inbox.deliver(delivery(BOX, 1, "a", answers="msg_q"))
            assert await inbox.reply("msg_q", 0, bounces=True) is not None
    assert await texts(inbox) == []
    await inbox.acknowledge(BOX, [1])
    with inbox.expecting("msg_q"):
        assert await inbox.reply("msg_q", 0, bounces=True) is None


async def test_the_word_that_one_of_many_copies_came_back_is_no_answer(boxes: Boxes):
    inbox = boxes.inbox
    with inbox.expecting("msg_q"):
        await inbox.deliver(delivery(BOX, 1, "bounce", answers="msg_q", sender="conductor"))
        assert await inbox.reply("msg_q", 0, bounces=False) is None
    assert await texts(inbox) == ["bounce"]


async def test_what_has_expired_is_not_shown_and_frees_its_room(boxes: Boxes, clock: Clock):
    now_ms = int(clock.time * 1000)
    await boxes.inbox.deliver(delivery(BOX, 1, "short", expire_time_ms=now_ms + 1000))
    await boxes.inbox.deliver(delivery(BOX, 2, "long", expire_time_ms=now_ms + 9000))
    await boxes.inbox.deliver(delivery(BOX, 3, "always"))
    clock.time += 1
    again = await boxes.restart()
    assert await texts(again.inbox) == ["long", "always"]
    await again.inbox.deliver(delivery(BOX, 0, "passing", expire_time_ms=now_ms + 2000))
    clock.time += 60
    await again.inbox.new_process(BOX)
    assert await texts(again.inbox) == ["always"]
    await again.inbox.acknowledge(BOX, [1, 2, 3])
    told = await states(again)
    assert (told[1], told[3]) == (message_pb2.MESSAGE_STATE_AT_SIDECAR, message_pb2.MESSAGE_STATE_ACKED)
    await again.close()


async def test_what_the_agent_has_seen_may_be_acknowledged_although_it_expired(boxes: Boxes, clock: Clock):
    await boxes.inbox.deliver(delivery(BOX, 1, "a", "b", expire_time_ms=int(clock.time * 1000) + 1000))
    await boxes.inbox.fetch(1, 0)
    clock.time += 2
    assert await texts(boxes.inbox) == []
    await boxes.inbox.acknowledge(BOX, [1])
    assert (await states(boxes))[1] == message_pb2.MESSAGE_STATE_ACKED


async def test_a_question_ends_with_its_answer_or_with_why_there_is_none(boxes: Boxes):
    inbox, clock = boxes.inbox, SystemClock()

    async def to_many(_: float) -> int:
        await inbox.deliver(delivery(BOX, 1, "yes", answers="msg_q"))
        return 2

    async def to_nobody(_: float) -> int:
        return 0

    async def to_one_that_ended(_: float) -> int:
        await inbox.deliver(delivery(BOX, 2, "the task ended", answers="msg_r", sender="conductor"))
        return 1

    async def to_silence(_: float) -> int:
        return 1

    assert (await ask(inbox, clock, to_many, "msg_q", 5)).envelope.id == "yes"
    with pytest.raises(AgentNotFoundError, match="nobody"):
        await ask(inbox, clock, to_nobody, "msg_n", 5)
    with pytest.raises(AgentNotFoundError, match="the task ended"):
        await ask(inbox, clock, to_one_that_ended, "msg_r", 5)
    with pytest.raises(DeadlineExceededError, match="msg_s"):
        await ask(inbox, clock, to_silence, "msg_s", 0.01)
    assert await texts(inbox) == []
    assert (await states(boxes))[2] == message_pb2.MESSAGE_STATE_ACKED


def test_patience_has_a_default_a_bound_and_ends_before_the_callers():
    def asked(seconds: float | None) -> local_service_pb2.RequestRequest:
        request = local_service_pb2.RequestRequest()
        if seconds is not None:
            request.timeout.FromMilliseconds(int(seconds * 1000))
        return request

    assert [patience(asked(None), None), patience(asked(3600), None), patience(asked(10), 60)] == [30, 3600, 10]
    assert 4.5 < patience(asked(10), 5) < 5
    for wrong in (0, -1, 3601):
        with pytest.raises(InvalidArgumentError):
            patience(asked(wrong), None)

"""In which order and how many at once frames leave."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from claude_conductor.errors import ControlPlaneUnavailableError, MailboxFullError
from claude_conductor.ids import TaskId
from claude_conductor.v1 import message_pb2, session_service_pb2
from controlplane.api.session.encode import deliveries
from controlplane.api.session.writer import BATCH_BYTES, CREDIT_MESSAGES, QUEUE_BYTES, Writer
from controlplane.domain.message import StoredFrame
from controlplane.domain.task import Lease
from controlplane.service.sessions import Refusal

WELCOME = session_service_pb2.ConnectResponse(welcome=session_service_pb2.Welcome(session_id="s")).SerializeToString()


def frame(position: int, texts: list[str], settled: frozenset[int] = frozenset()) -> StoredFrame:
    ids = b"".join(bytes([position + index]) * 16 for index in range(len(texts)))
    body = message_pb2.MessageFrame(
        header=message_pb2.FrameHeader(recipient="agent-1", message_ids=ids),
        envelopes=[message_pb2.Envelope(data=text.encode()) for text in texts],
    ).SerializeToString()
    return StoredFrame("default/agent-1", "operator", "note", ids, 0, body, 7, position, 1, settled)


class Transport:
    """Takes writes, each only when let through."""

    def __init__(self) -> None:
        self.written: list[session_service_pb2.ConnectResponse] = []
        self.open = asyncio.Event()
        self.open.set()
        self.changed = asyncio.Event()

    async def write(self, raw: bytes) -> None:
        self.written.append(session_service_pb2.ConnectResponse.FromString(raw))
        self.changed.set()
        await self.open.wait()

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(5):
            while len(self.written) < count:
                self.changed.clear()
                await self.changed.wait()
        return [str(written.WhichOneof("frame")) for written in self.written]


def texts(delivery: session_service_pb2.ConnectResponse) -> list[str]:
    return [envelope.data.decode() for one in delivery.delivery.frames for envelope in one.frame.envelopes]


async def running(writer: Writer, transport: Transport) -> asyncio.Task[None]:
    return asyncio.create_task(writer.run(transport.write), name="writer")


async def test_nothing_leaves_before_the_welcome_and_deliveries_leave_last() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    task = await running(writer, transport)
    writer.deliver(frame(1, ["a"]), 0)
    writer.revoke([Lease(TaskId("task_1"), 1, 1)])
    writer.committed(3, [Refusal(2, MailboxFullError())], CREDIT_MESSAGES // 4 - 1, 10)
    writer.welcome(WELCOME)
    assert await transport.until(4) == ["welcome", "leases_revoked", "committed", "delivery"]
    refused = transport.written[2].committed
    assert (refused.sequence, refused.refused[0].reason, refused.refused[0].retry_delay.seconds) == (3, "MAILBOX_FULL", 1)
    writer.committed(4, [], 1, 10)  # with this a quarter of the credit was used
    assert (await transport.until(6))[4:] == ["credit", "committed"]
    assert transport.written[4].credit.messages == CREDIT_MESSAGES // 4
    task.cancel()


async def test_what_comes_while_a_write_is_in_flight_goes_into_the_next_one() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    writer.welcome(WELCOME)
    task = await running(writer, transport)
    await transport.until(1)
    transport.open.clear()
    writer.deliver(frame(1, ["a"]), 0)
    await transport.until(2)
    for position in range(2, 6):
        writer.deliver(frame(position, [str(position)]), 0)
    transport.open.set()
    await transport.until(3)
    assert [texts(written) for written in transport.written[1:]] == [["a"], ["2", "3", "4", "5"]]
    task.cancel()


async def test_a_batch_has_at_most_256_kib_and_the_queue_one_mebibyte() -> None:
    grown: list[int] = []
    writer, transport = Writer(lambda link: grown.append(link.room)), Transport()
    position = 0
    while writer.room > 0:
        position += 1
        writer.deliver(frame(position % 100 + 1, ["x" * 100_000]), 0)
    assert 0 <= position * 100_000 - QUEUE_BYTES < 200_000
    writer.welcome(WELCOME)
    task = await running(writer, transport)
    while sum(len(written.delivery.frames) for written in transport.written) < position:
        await transport.until(len(transport.written) + 1)
    assert max(written.ByteSize() for written in transport.written) <= BATCH_BYTES + 64
    writer.revoke([])  # written after the last batch, so that batch is done
    await transport.until(len(transport.written) + 1)
    assert grown[-1] == QUEUE_BYTES
    task.cancel()


def test_credit_of_the_sidecar_bounds_what_is_queued() -> None:
    writer = Writer(lambda _: None)
    assert writer.room == QUEUE_BYTES
    writer.grant(2, 10_000)
    writer.deliver(frame(1, ["a", "b"]), 0)
    assert writer.room == 0
    writer.grant(1, 0)
    assert 0 < writer.room < 10_000


async def test_messages_that_are_settled_or_known_are_left_out_with_their_positions_kept() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    writer.welcome(WELCOME)
    writer.deliver(frame(10, ["a", "b", "c", "d", "e"], settled=frozenset({12})), 10)
    task = await running(writer, transport)
    await transport.until(2)
    delivered = transport.written[1].delivery.frames
    assert [(one.header.first_position, [envelope.data for envelope in one.frame.envelopes]) for one in delivered] == [
        (11, [b"b"]),
        (13, [b"d", b"e"]),
    ]
    assert [len(one.frame.header.message_ids) for one in delivered] == [16, 32]
    task.cancel()


async def test_an_ended_session_takes_nothing_more_and_says_why() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    writer.welcome(WELCOME)
    writer.end("a newer session of this agent took over")
    assert writer.room == 0
    with pytest.raises(ControlPlaneUnavailableError, match="a newer session"):
        await writer.run(transport.write)


async def test_messages_of_a_frame_that_were_shown_differently_often_leave_with_their_own_attempts() -> None:
    mixed = replace(frame(1, ["a", "b", "c", "d"], frozenset({3})), attempt=3, attempts=(3, 1, 9, 1))
    sent = session_service_pb2.Delivery.FromString(b"".join(entry for _, entry in deliveries(mixed, 0)))
    assert [
        (each.header.first_position, each.header.attempt, [envelope.data for envelope in each.frame.envelopes])
        for each in sent.frames
    ] == [(1, 3, [b"a"]), (2, 1, [b"b"]), (4, 1, [b"d"])]


def test_what_was_delivered_before_there_was_credit_is_paid_for_by_the_first_grant() -> None:
    writer = Writer(lambda _: None)
    writer.deliver(frame(1, ["a", "b"]), 0)
    writer.grant(2, 10_000)
    assert writer.room == 0
    writer.grant(1, 0)
    assert 0 < writer.room < 10_000

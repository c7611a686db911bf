"""In which order and how many at once frames leave."""

from __future__ import annotations

import asyncio

import pytest

from claude_conductor.errors import ControlPlaneUnavailableError, InvalidArgumentError, MailboxFullError
from claude_conductor.ids import TaskId
from claude_conductor.v1 import message_pb2, session_service_pb2
from controlplane.api.session.encode import deliveries
from controlplane.api.session.frozen import Watchdog
from controlplane.api.session.writer import BATCH_BYTES, StreamBounds, Writer
from controlplane.domain.message import StoredFrame
from controlplane.domain.task import Lease
from controlplane.service.sessions import Refusal

BOUNDS = StreamBounds()
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
    writer.committed(3, [Refusal(2, MailboxFullError())], BOUNDS.ahead_messages // 4 - 1, 10)
    writer.welcome(WELCOME)
    assert await transport.until(4) == ["welcome", "leases_revoked", "committed", "delivery"]
    refused = transport.written[2].committed
    assert (refused.sequence, refused.refused[0].reason, refused.refused[0].retry_delay.seconds) == (3, "MAILBOX_FULL", 1)
    writer.committed(4, [], 1, 10)  # with this a quarter of the credit was used
    assert (await transport.until(6))[4:] == ["credit", "committed"]
    assert transport.written[4].credit.messages == BOUNDS.ahead_messages // 4
    task.cancel()


async def test_that_frames_were_taken_is_told_with_a_delivery_that_leaves_anyway_but_not_what_was_refused() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    writer.welcome(WELCOME)
    writer.deliver(frame(1, ["a"]), 0)
    writer.committed(300, [], 1, 10)
    task = await running(writer, transport)
    assert await transport.until(2) == ["welcome", "delivery"]
    assert (transport.written[1].delivery.committed_sequence, texts(transport.written[1])) == (300, ["a"])
    writer.deliver(frame(2, ["b"]), 0)
    writer.committed(301, [Refusal(301, MailboxFullError())], 1, 10)
    assert (await transport.until(4))[2:] == ["committed", "delivery"]
    assert transport.written[3].delivery.committed_sequence == 0
    task.cancel()


async def test_what_is_held_back_leaves_once_the_sidecar_has_finished() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    writer.welcome(WELCOME)
    writer.committed(7, [], 0, 0, receipts=True)
    writer.deliver(frame(1, ["a"]), 0)
    await writer.drain(transport.write)
    assert await transport.until(2) == ["welcome", "committed"]
    assert transport.written[1].committed.sequence == 7


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
    assert 0 <= position * 100_000 - BOUNDS.queue_bytes < 200_000
    writer.welcome(WELCOME)
    task = await running(writer, transport)
    while sum(len(written.delivery.frames) for written in transport.written) < position:
        await transport.until(len(transport.written) + 1)
    assert max(written.ByteSize() for written in transport.written) <= BATCH_BYTES + 64
    writer.revoke([])  # written after the last batch, so that batch is done
    await transport.until(len(transport.written) + 1)
    assert grown[-1] == BOUNDS.queue_bytes
    task.cancel()


def test_credit_of_the_sidecar_bounds_what_is_queued() -> None:
    writer = Writer(lambda _: None)
    assert writer.room == BOUNDS.queue_bytes
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
    mixed = frame(1, ["a", "b", "c", "d"], frozenset({3}))._replace(attempt=3, attempts=(3, 1, 9, 1))
    sent = session_service_pb2.Delivery.FromString(b"".join(entry.head + entry.frame for entry in deliveries(mixed, 0)))
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


async def test_a_sidecar_that_does_not_read_its_refusals_is_not_listened_to_until_it_does() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    writer.welcome(WELCOME)
    task = await running(writer, transport)
    await transport.until(1)
    transport.open.clear()
    writer.revoke([])
    await transport.until(2)
    writer.committed(1000, [Refusal(number, MailboxFullError()) for number in range(1000)], 0, 0)
    async with asyncio.timeout(1):
        await writer.answered()
    writer.committed(2000, [Refusal(number, MailboxFullError()) for number in range(1000)], 0, 0)
    waiting = asyncio.create_task(writer.answered())
    await asyncio.sleep(0)
    assert not waiting.done()
    transport.open.set()
    async with asyncio.timeout(5):
        await waiting
    await transport.until(3)
    assert len(transport.written[2].committed.refused) == 2000
    task.cancel()


async def test_a_refusal_does_not_echo_more_than_a_sentence() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    writer.welcome(WELCOME)
    task = await running(writer, transport)
    writer.committed(1, [Refusal(1, InvalidArgumentError(recipient="x" * 1_000_000))], 0, 0)
    await transport.until(2)
    assert transport.written[1].ByteSize() < 2000
    task.cancel()


async def test_the_bounds_of_the_settings_are_those_that_hold() -> None:
    writer, transport = Writer(lambda _: None, StreamBounds(queue_bytes=1000, ahead_messages=8, ahead_bytes=4000)), Transport()
    assert writer.room == 1000
    writer.deliver(frame(1, ["x" * 2000]), 0)
    assert writer.room < 0
    writer.welcome(WELCOME)
    task = await running(writer, transport)
    writer.committed(1, [], 1, 10)
    writer.committed(2, [], 1, 10)
    assert await transport.until(3) == ["welcome", "credit", "delivery"]
    assert transport.written[1].credit.messages == 2
    assert transport.written[2].delivery.committed_sequence == 2
    task.cancel()


async def test_a_session_ends_out_of_a_write_that_does_not() -> None:
    writer, transport = Writer(lambda _: None), Transport()
    transport.open.clear()
    writer.welcome(WELCOME)
    task = await running(writer, transport)
    await transport.until(1)
    writer.end("a newer session of this agent took over")
    writer.end("once is enough")
    with pytest.raises(ControlPlaneUnavailableError, match="a newer session"):
        async with asyncio.timeout(5):
            await task


async def test_a_sidecar_that_neither_reads_nor_speaks_is_given_up_and_one_that_speaks_is_not() -> None:
    watchdog = Watchdog(0.05)
    transport = Transport()
    transport.open.clear()
    mute, slow, idle = (Writer(lambda _: None) for _ in range(3))
    tasks = []
    for writer in (mute, slow):
        writer.welcome(WELCOME)
        tasks.append(await running(writer, transport))
    tasks.append(await running(idle, transport))
    await transport.until(2)

    async def speak() -> None:
        while True:
            slow.heard += 1
            await asyncio.sleep(0.01)

    tasks.append(asyncio.create_task(speak()))
    with watchdog.watching(mute), watchdog.watching(slow), watchdog.watching(idle):
        with pytest.raises(ControlPlaneUnavailableError, match="neither reads nor speaks"):
            async with asyncio.timeout(5):
                await tasks[0]
        assert not tasks[1].done()
        assert not tasks[2].done()
    for task in tasks:
        task.cancel()

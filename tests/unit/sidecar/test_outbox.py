"""The outbox: order, repeats after a lost connection, answers, and what gives way when it is full."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Coroutine
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent_sidecar.isolation.interface import Level
from agent_sidecar.run.task import InForce, Lease, Patch, Result, Usage
from agent_sidecar.uplink.frames import Frame, Kind, Published, Refusal, content_size, number_size, numbered
from agent_sidecar.uplink.outbox import OutboxLimits
from agent_sidecar.uplink.reporting import Reporting, without_patch
from agent_sidecar.uplink.sending import Sender
from claude_conductor.clock import SystemClock
from claude_conductor.errors import (
    AgentNotFoundError,
    AgentOfflineError,
    ConductorError,
    ControlPlaneUnavailableError,
    MailboxFullError,
    RateLimitedError,
)
from claude_conductor.v1 import message_pb2
from claude_conductor.v1 import session_service_pb2 as pb
from tests.fakes.boxes import Boxes

LEASE = Lease("task_1", 1, 2**63 + 5)


def frame(number: int, kind: Kind = Kind.STATUS) -> Frame:
    body = pb.ConnectRequest(report=pb.TaskReport(progress=pb.TaskProgress(text=str(number))))
    return Frame(kind, body.SerializeToString())


def texts(requests: list[pb.ConnectRequest]) -> list[int]:
    return [int(request.report.progress.text) for request in requests]


@pytest.mark.parametrize("sequence", [1, 127, 128, 300, 2**32, 2**63])
def test_a_frame_carries_its_number_as_protobuf_writes_it(sequence: int):
    body = pb.ConnectRequest(report=pb.TaskReport(progress=pb.TaskProgress(text="x")))
    whole = pb.ConnectRequest(sequence=sequence)
    whole.MergeFrom(body)
    assert numbered(sequence, body.SerializeToString()) == whole.SerializeToString()


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["append", "send", "commit", "lose answer", "forget", "restart"]), max_size=25))
def test_every_frame_reaches_the_control_plane_in_order_whatever_is_lost(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
):
    asyncio.run(play(steps, tmp_path_factory.mktemp("outbox") / "journal.db"))


async def play(steps: list[str], path: Path) -> None:
    """A model of the other end: it commits what it has not seen in this life, in order, and may lose its memory."""
    boxes = Boxes(path)
    await boxes.open()
    appended = sent = remembered = 0
    effects: list[int] = []

    def take(requests: list[pb.ConnectRequest]) -> None:
        nonlocal remembered
        for request in requests:
            if request.sequence > remembered:
                remembered = request.sequence
                effects.append(int(request.report.progress.text))

    for step in [*steps, "restart", "send", "commit"]:
        match step:
            case "append":
                appended += 1
                assert await boxes.outbox.append(frame(appended)) == appended
            case "send":
                requests = await boxes.wire(sent)
                assert [request.sequence for request in requests] == sorted(request.sequence for request in requests)
                take(requests)
                sent = max([sent, *(request.sequence for request in requests)])
            case "commit":
                boxes.outbox.committed(remembered, {})
            case "lose answer":
                sent = boxes.outbox.resume(remembered)
            case "forget":
                remembered = 0
                sent = boxes.outbox.resume(0)
            case "restart":
                boxes = await boxes.restart()
                remembered = 0
                sent = boxes.outbox.resume(0)
    assert list(dict.fromkeys(effects)) == list(range(1, appended + 1))
    assert await boxes.wire() == []
    await boxes.close()


async def test_a_number_is_never_used_twice_even_when_nothing_waits(boxes: Boxes):
    await boxes.outbox.append(frame(1))
    boxes.outbox.committed(1, {})
    again = await boxes.restart()
    assert await again.outbox.append(frame(2)) == 2
    await again.close()


async def test_a_result_waits_for_its_attachment_and_holds_back_what_follows(boxes: Boxes):
    patch = Patch(Path("p"), "ab" * 32, 5, 1, 2, 3)
    await boxes.outbox.append(frame(1))
    in_force = InForce(Level.STRICT, Level.STRICT, "fake")
    await Reporting(boxes.outbox).completed(LEASE, Result(patch=patch, in_force=in_force))
    await boxes.outbox.append(frame(2))
    assert len(await boxes.wire()) == 1
    assert boxes.outbox.uncommitted_leases() == (LEASE,)
    again = await boxes.restart()
    held = again.outbox.held()
    assert held is not None
    assert held.attachment == patch.artefact_id
    assert again.outbox.uncommitted_leases() == (LEASE,)
    again.outbox.release(held.sequence)
    first, second, third = await again.wire()
    assert second.report.completed.patch_artefact_id == patch.artefact_id
    assert second.report.lease.epoch == LEASE.epoch
    again.outbox.committed(third.sequence, {})
    assert again.outbox.uncommitted_leases() == ()
    assert again.outbox.attachments() == frozenset()
    await again.close()
    del first


async def test_a_result_whose_patch_is_refused_goes_without_it_and_says_so(boxes: Boxes):
    await Reporting(boxes.outbox).completed(LEASE, Result(patch=Patch(Path("p"), "ab" * 32, 5, 1, 2, 3)))
    held = boxes.outbox.held()
    assert held is not None
    await boxes.outbox.replace(held.sequence, lambda body: without_patch(body, "too large"))
    (request,) = await boxes.wire()
    assert request.report.completed.patch_artefact_id == ""
    assert list(request.report.completed.warnings) == ["the patch could not be stored: too large"]


async def test_output_gives_way_first_then_messages_and_results_never(tmp_path: Path):
    boxes = Boxes(tmp_path / "journal.db", OutboxLimits(journal=40_000, output_ahead=10_000))
    await boxes.open()
    reports, sender = Reporting(boxes.outbox), Sender(boxes.outbox)
    taken = [await reports.output(LEASE, "stdout", index * 1000, b"x" * 1000) for index in range(60)]
    assert taken.index(False) in range(15, 25)
    assert not any(taken[25:])
    assert boxes.outbox.takes_message(1000)
    for _ in range(25):
        await boxes.outbox.append(Frame(Kind.MESSAGE, b"x" * 1000))
    with pytest.raises(MailboxFullError):
        await sender.send(header("a", 1), message_pb2.Envelope(data=b"x" * 1000), 1)
    await reports.completed(LEASE, Result(summary="x" * 5000))
    assert boxes.outbox.uncommitted_leases() == (LEASE,)
    await boxes.close()


async def test_while_the_control_plane_is_there_output_waits_instead(tmp_path: Path):
    boxes = Boxes(tmp_path / "journal.db", OutboxLimits(journal=1 << 20, output_ahead=3000))
    await boxes.open()
    boxes.outbox.resume(0)
    reports = Reporting(boxes.outbox)
    for offset in (0, 1000):
        assert await reports.output(LEASE, "stdout", offset, b"x" * 1000)
    await boxes.outbox.append(frame(0))
    third = asyncio.create_task(reports.output(LEASE, "stdout", 2000, b"x" * 1000))
    await asyncio.sleep(0)
    assert not third.done()
    boxes.outbox.committed(1, {})
    async with asyncio.timeout(5):
        assert await third
    await boxes.close()


async def test_a_result_refused_for_now_is_sent_again_at_the_end(boxes: Boxes):
    await Reporting(boxes.outbox).completed(LEASE, Result(summary="kept"))
    again = boxes.outbox.committed(1, {1: Refusal("STORE_UNAVAILABLE", "disk full", 1.0)})
    ((entry, _),) = again
    await boxes.outbox.repeat(entry)
    (request,) = await boxes.wire(1)
    assert (request.sequence, request.report.completed.summary) == (2, "kept")


def header(recipient: str, number: int, quality: int = message_pb2.QUALITY_DURABLE) -> message_pb2.FrameHeader:
    return message_pb2.FrameHeader(recipient=recipient, type="t", quality=quality, message_ids=number.to_bytes(16, "big"))


async def next_frames(boxes: Boxes, after: int = 0) -> list[pb.ConnectRequest]:
    async with asyncio.timeout(5):
        while not (frames := await boxes.wire(after)):  # noqa: ASYNC110 - each look is a round through the journal
            await asyncio.sleep(0)
        return frames


async def test_each_sender_hears_what_became_of_its_message(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    good = asyncio.create_task(sender.send(header("a", 1), message_pb2.Envelope(data=b"1"), 5))
    (first,) = await next_frames(boxes)
    boxes.outbox.committed(first.sequence, {})
    await good
    bad = asyncio.create_task(sender.send(header("b", 2), message_pb2.Envelope(data=b"2"), 5))
    (second,) = await next_frames(boxes, 1)
    boxes.outbox.committed(second.sequence, {second.sequence: Refusal("AGENT_NOT_FOUND", "nobody")})
    with pytest.raises(AgentNotFoundError, match="nobody"):
        await bad


async def test_a_sender_hears_for_how_many_mailboxes_its_message_was_taken(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    many = asyncio.create_task(sender.send(header("topic/a", 1), message_pb2.Envelope(data=b"1"), 5))
    (first,) = await next_frames(boxes)
    boxes.outbox.committed(first.sequence, {}, {first.sequence: Published(0)})
    assert await many == 0
    one = asyncio.create_task(sender.send(header("b", 2), message_pb2.Envelope(data=b"2"), 5))
    (second,) = await next_frames(boxes, 1)
    boxes.outbox.committed(second.sequence, {})
    assert await one == 1


async def test_messages_that_come_while_the_journal_is_busy_share_a_frame_in_order(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    async with asyncio.TaskGroup() as group:
        for number in range(1, 21):
            recipient = "b" if number == 15 else "a"
            group.create_task(sender.send(header(recipient, number), message_pb2.Envelope(data=b"%d" % number), 5))
        seen: list[pb.ConnectRequest] = []
        while sum(len(request.message_frame.envelopes) for request in seen) < 20:
            seen += await next_frames(boxes, len(seen))
        boxes.outbox.committed(seen[-1].sequence, {})
    assert len(seen) <= 4
    numbers = [int(envelope.data) for request in seen for envelope in request.message_frame.envelopes]
    assert numbers == list(range(1, 21))
    for request in seen:
        ids = request.message_frame.header.message_ids
        assert [int.from_bytes(ids[i : i + 16], "big") for i in range(0, len(ids), 16)] == [
            int(envelope.data) for envelope in request.message_frame.envelopes
        ]


async def test_a_repeat_of_a_message_that_still_waits_is_journalled_once(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    with pytest.raises(ControlPlaneUnavailableError, match="not known"):
        await sender.send(header("a", 1), message_pb2.Envelope(), 0.05)
    repeat = asyncio.create_task(sender.send(header("a", 1), message_pb2.Envelope(), 5))
    frames = await next_frames(boxes)
    assert len(frames) == 1
    boxes.outbox.committed(1, {})
    await repeat


async def test_an_answer_lost_with_its_connection_is_unknown_not_ok(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    sending = asyncio.create_task(sender.send(header("a", 1), message_pb2.Envelope(), 5))
    await next_frames(boxes)
    boxes.outbox.resume(1)
    with pytest.raises(ControlPlaneUnavailableError, match="not known"):
        await sending


async def test_without_credit_messages_wait_and_ephemeral_ones_fail_when_nobody_is_there(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    sender.credit(1, 1 << 20, first=True)
    async with asyncio.TaskGroup() as group:
        for number in (1, 2):
            group.create_task(sender.send(header("a", number), message_pb2.Envelope(), 5))
        first = await next_frames(boxes)
        assert sum(len(request.message_frame.envelopes) for request in first) == 1
        sender.credit(1, 1 << 20, first=False)
        second = await next_frames(boxes, 1)
        assert len(second) == 1
        boxes.outbox.committed(2, {})
    boxes.outbox.disconnected()
    with pytest.raises(AgentOfflineError):
        await sender.send(header("a", 3, message_pb2.QUALITY_EPHEMERAL), message_pb2.Envelope(), 5)


async def test_progress_gives_way_when_the_journal_is_full(tmp_path: Path):
    boxes = Boxes(tmp_path / "journal.db", OutboxLimits(journal=3000))
    await boxes.open()
    for _ in range(10):
        await Reporting(boxes.outbox).progress(LEASE, "x" * 1000, Usage())
    assert len(await next_frames(boxes)) == 2
    await boxes.close()


async def test_an_ephemeral_message_does_not_outlive_its_session(boxes: Boxes):
    """The control plane keeps nothing of it, so a repeat would be shown twice."""
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    async with asyncio.TaskGroup() as group:
        chatter = header("a", 1, message_pb2.QUALITY_EPHEMERAL)
        lost = group.create_task(outcome(sender.send(chatter, message_pb2.Envelope(), 5)))
        await next_frames(boxes)
        kept = group.create_task(sender.send(header("a", 2), message_pb2.Envelope(), 5))
        await next_frames(boxes, 1)
        boxes.outbox.disconnected()
        assert "not known" in await lost
        boxes.outbox.resume(0)
        (frame,) = await next_frames(boxes)
        assert frame.message_frame.header.message_ids == header("a", 2).message_ids
        boxes.outbox.committed(frame.sequence, {})
        await kept


async def test_an_ephemeral_message_is_not_sent_by_the_next_life_of_the_sidecar(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    lost = asyncio.create_task(outcome(sender.send(header("a", 1, message_pb2.QUALITY_EPHEMERAL), message_pb2.Envelope(), 5)))
    await next_frames(boxes)
    again = await boxes.restart()
    assert await again.wire() == []
    assert again.outbox.drained.is_set()
    lost.cancel()
    await again.close()


async def outcome(sending: Coroutine[None, None, None]) -> str:
    try:
        await sending
    except ConductorError as error:
        return str(error)
    return "accepted"


async def test_credit_neither_grows_with_what_is_sent_again_nor_shrinks_with_what_the_disk_refused(boxes: Boxes):
    sender = Sender(boxes.outbox)
    sender.credit(10, 1000, first=True)
    sender.credit(5, 500, first=False)  # for frames that an earlier session had paid for
    assert (sender._allowance.messages, sender._allowance.bytes) == (10, 1000)
    boxes.journal._connection.execute("PRAGMA query_only = 1")
    assert "could not be written" in await outcome(sender.send(header("a", 1), message_pb2.Envelope(data=b"x"), 5))
    assert (sender._allowance.messages, sender._allowance.bytes) == (10, 1000)


async def test_a_message_costs_what_the_control_plane_gives_back_for_it(boxes: Boxes):
    sender = Sender(boxes.outbox)
    boxes.outbox.resume(0)
    sender.credit(10, 1 << 20, first=True)
    sending = asyncio.create_task(sender.send(header("a", 1), message_pb2.Envelope(data=b"x" * 300), 5))
    (request,) = await next_frames(boxes)
    assert (sender._allowance.messages, sender._allowance.bytes) == (9, (1 << 20) - request.message_frame.ByteSize())
    boxes.outbox.committed(1, {})
    await sending


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 2_000_000, 5_000_000])
def test_what_is_inside_a_field_is_told_from_what_it_takes(size: int):
    request = pb.ConnectRequest(message_frame=message_pb2.MessageFrame(envelopes=[message_pb2.Envelope(data=b"x" * size)]))
    assert content_size(request.ByteSize()) == request.message_frame.ByteSize()


class HandClock(SystemClock):
    """Moved by hand."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


async def test_a_sender_that_is_too_fast_is_held_back_at_the_sidecar_and_nothing_overtakes(boxes: Boxes):
    clock = HandClock()
    sender = Sender(boxes.outbox, clock)
    boxes.outbox.resume(0)
    sender.credit(2, 1 << 20, first=True)
    sends = [asyncio.create_task(sender.send(header("a", n), message_pb2.Envelope(), 5)) for n in range(4)]
    async with asyncio.timeout(5):
        while len(under_way := await boxes.wire()) < 2:  # the first alone, the second when the journal had that one
            await boxes.journal.submit(lambda _: None)
    last = under_way[-1].sequence
    boxes.outbox.committed(last, {each.sequence: Refusal("RATE_LIMITED", "slow", 0.25) for each in under_way})
    ended = await asyncio.gather(*sends, return_exceptions=True)
    assert [(type(each), each.retry_after) for each in ended] == [(RateLimitedError, 0.25)] * 4

    clock.seconds += 0.1
    with pytest.raises(RateLimitedError) as early:
        await sender.send(header("a", 5), message_pb2.Envelope(), 5)
    assert early.value.retry_after == pytest.approx(0.15)
    assert await boxes.wire(last) == []

    clock.seconds += early.value.retry_after + 1e-6
    sender.credit(10, 1 << 20, first=True)
    again = asyncio.create_task(sender.send(header("a", 0), message_pb2.Envelope(), 5))
    (frame_again,) = await next_frames(boxes, last)
    boxes.outbox.committed(frame_again.sequence, {})
    await again


async def test_messages_that_wait_in_the_journal_are_not_held_in_memory_as_well(boxes: Boxes):
    sender = Sender(boxes.outbox)
    tracemalloc.start()
    try:
        for number in range(20):
            with pytest.raises(ControlPlaneUnavailableError):
                await sender.send(header("a", number), message_pb2.Envelope(data=bytes(1 << 20)), 0.0)
            await boxes.journal.submit(lambda _: None)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(await boxes.wire(19)) == 1
    assert held < 6 << 20


async def test_messages_without_an_answer_are_bounded_however_small_they_are(boxes: Boxes):
    sender = Sender(boxes.outbox, most_under_way=300)

    async def give_up(number: int) -> None:
        with pytest.raises(ControlPlaneUnavailableError):
            await sender.send(header("a", number), message_pb2.Envelope(), 0.0)

    for number in range(300):
        await give_up(number)
        if number % 50 == 0:
            await boxes.journal.submit(lambda _: None)
    with pytest.raises(MailboxFullError):
        await sender.send(header("a", 301), message_pb2.Envelope(), 5)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 1 << 40])
def test_the_size_of_a_number_is_that_of_protobuf(value: int):
    assert number_size(value) == pb.Delivery(committed_sequence=value).ByteSize()

"""Bytes nobody should send: the stream or call ends with a clear status, quickly, and others notice nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent_sidecar.local.local_servicer import LocalServicer, Reach
from agent_sidecar.local.server import SOCKET_NAME, LocalServer
from claude_conductor.clock import SystemClock, SystemMint
from claude_conductor.errors import AgentNotFoundError, MessageNotFoundError, StaleLeaseError
from claude_conductor.rpc.channel import bearer, open_channel
from claude_conductor.v1 import (
    agent_pb2,
    local_service_pb2,
    local_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    task_pb2,
)
from claude_conductor.v1 import session_service_pb2 as pb
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, sidecar_token

BAD = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
"""A bug, or a hang."""
SECONDS = 10.0
few = settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))

texts = st.text(max_size=12)
numbers = st.one_of(st.integers(0, 3), st.sampled_from((2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)))
small = st.one_of(st.integers(0, 3), st.just(2**31 - 1))
leases = st.builds(task_pb2.Lease, task_id=texts, attempt=small, epoch=numbers)
headers = st.builds(
    message_pb2.FrameHeader,
    recipient=st.one_of(texts, st.sampled_from(("agent-1", "operator", "task/task_" + "0" * 32, "agent-3"))),
    type=texts,
    quality=st.integers(0, 3),
    hop_count=small,
    expire_time_ms=numbers,
    message_ids=st.one_of(st.binary(max_size=40), st.binary(min_size=16, max_size=16)),
    task_id=texts,
)
envelopes = st.builds(message_pb2.Envelope, id=texts, source=texts, type=texts, data=st.binary(max_size=30), traceparent=texts)
message_frames = st.builds(message_pb2.MessageFrame, header=headers, envelopes=st.lists(envelopes, max_size=2))
receipts = st.builds(
    pb.Receipt,
    mailbox=st.one_of(texts, st.just("agent-3")),
    from_position=numbers,
    to_position=numbers,
    state=st.integers(0, 9),
    reason=texts,
)
requests = st.one_of(
    st.builds(pb.ConnectRequest, sequence=numbers, message_frame=message_frames),
    st.builds(pb.ConnectRequest, sequence=numbers, receipts=st.builds(pb.Receipts, receipts=st.lists(receipts, max_size=3))),
    st.builds(pb.ConnectRequest, heartbeat=st.builds(pb.Heartbeat, leases=st.lists(leases, max_size=2), state=st.integers(0, 9))),
    st.builds(pb.ConnectRequest, credit=st.builds(pb.Credit, messages=small, bytes=numbers)),
    st.builds(
        pb.ConnectRequest,
        sequence=numbers,
        report=st.builds(pb.TaskReport, lease=leases, progress=st.builds(pb.TaskProgress, text=texts)),
    ),
    st.builds(
        pb.ConnectRequest,
        hello=st.builds(
            pb.SidecarHello,
            protocol_version=st.sampled_from((0, 1000, 1001, 2000)),
            incarnation=texts,
            long_running=st.booleans(),
            active_leases=st.lists(leases, max_size=2),
            mailbox_positions=st.dictionaries(texts, numbers, max_size=2),
        ),
    ),
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> bytes:
    """Return what was written, or nearly that, or anything at all."""
    raw = bytearray(draw(st.one_of(st.binary(max_size=60), whole.map(lambda message: message.SerializeToString()))))
    for _ in range(draw(st.sampled_from((0, 0, 1, 3)))):
        if raw:
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del raw[draw(st.integers(0, len(raw))) :]
    return bytes(raw)


HELLO = pb.ConnectRequest(hello=pb.SidecarHello(protocol_version=1000, incarnation="life", long_running=True)).SerializeToString()
streams = st.builds(
    lambda good, frames: [HELLO, *frames] if good else frames, st.booleans(), st.lists(damaged(requests), min_size=1, max_size=5)
)


async def ending(call: Any) -> grpc.StatusCode | None:
    """Read a stream to its end and return its status; None if only our own end knows that it is over.

    A client that writes to a stream the server has ended gets no status but this text of its own library.
    """
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            continue
    status: grpc.StatusCode = await call.code()
    return None if await call.details() == "Internal error from Core" else status


@few
@given(frames=streams)
async def test_a_session_of_hostile_frames_ends_clearly(shared: ControlPlane, frames: Sequence[bytes]) -> None:
    async with open_channel(shared.address) as channel:
        stream: Any = channel.stream_stream("/claude_conductor.v1.SessionService/Connect")
        call = stream(metadata=bearer(sidecar_token("agent-3")), timeout=SECONDS, wait_for_ready=True)
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for frame in frames:
                await call.write(frame)
            await call.done_writing()
        assert await ending(call) not in BAD, shared.log()[-3000:]
    assert "a call failed" not in shared.log()


async def test_another_pair_goes_on_while_somebody_sends_rubbish(shared: ControlPlane, sidecar_of) -> None:
    sender = await sidecar_of(shared, "agent-1", long_running=True)
    receiver = await sidecar_of(shared, "agent-2", long_running=True)

    async def rubbish() -> None:
        async with open_channel(shared.address) as channel:
            stream: Any = channel.stream_stream("/claude_conductor.v1.SessionService/Connect")
            for number in range(100):
                call = stream(metadata=bearer(sidecar_token("agent-3")), timeout=SECONDS)
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(HELLO)
                    await call.write(b"\x08\x01\x1a\x05\x0a\x00" + bytes([number]) * 50_000)
                assert await ending(call) not in BAD

    async with asyncio.TaskGroup() as group:
        group.create_task(rubbish())
        for number in range(200):
            sequence = await sender.say("agent-2", str(number))
    assert await sender.committed(sequence) is None
    got: list[str] = []
    while len(got) < 200:
        got += [envelope.data.decode() for envelope in (await receiver.next_frame()).frame.envelopes]
    assert got == [str(number) for number in range(200)]
    acked = await receiver.receipt("agent-2", 1, receiver.positions["agent-2"], message_pb2.MESSAGE_STATE_ACKED)
    assert await receiver.committed(acked) is None
    assert sender.ended is None
    assert receiver.ended is None
    assert "a call failed" not in shared.log()


async def status_of(channel: grpc.aio.Channel, method: str, raw: bytes, metadata: Any = None) -> grpc.StatusCode:
    try:
        await channel.unary_unary(method)(raw, metadata=metadata, timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


waits = st.builds(message_service_pb2.FetchMessagesRequest, max_messages=st.integers(-1, 2**31 - 1), after_position=numbers)
unary = st.one_of(
    st.tuples(
        st.just("SendMessage"),
        damaged(
            st.builds(message_service_pb2.SendMessageRequest, recipient=texts, envelope=envelopes, quality=st.integers(0, 3))
        ),
    ),
    st.tuples(st.just("FetchMessages"), damaged(waits)),
    st.tuples(
        st.just("AcknowledgeMessages"),
        damaged(st.builds(message_service_pb2.AcknowledgeMessagesRequest, positions=st.lists(numbers, max_size=3))),
    ),
    st.tuples(st.just("GetMessage"), damaged(st.builds(message_service_pb2.GetMessageRequest, message_id=texts))),
    st.tuples(
        st.just("ListMessages"),
        damaged(
            st.builds(message_service_pb2.ListMessagesRequest, recipient=texts, page_token=texts, page_size=st.integers(-1, 9))
        ),
    ),
)


@few
@given(request=unary)
async def test_a_hostile_call_of_the_message_service_is_answered_clearly(
    shared: ControlPlane, request: tuple[str, bytes]
) -> None:
    method, raw = request
    async with open_channel(shared.address) as channel:
        code = await status_of(channel, f"/claude_conductor.v1.MessageService/{method}", raw, bearer(OPERATOR_TOKEN))
    assert code not in BAD, shared.log()[-3000:]
    assert "a call failed" not in shared.log()


class Desk:
    """A slot without a task, a post that delivers nothing, letters that never come, a control plane that knows nobody."""

    own_mailbox = "agent-1"
    present = None
    present_in_force = None
    traceparent = ""

    def calling(self) -> Any:
        return nullcontext()

    async def progress(self, text: str) -> None:
        raise StaleLeaseError(text)

    async def next_task(self, wait: float) -> Any:
        raise StaleLeaseError(wait=wait)

    async def complete_task(self, task_id: str, summary: str, failure: str | None) -> None:
        raise StaleLeaseError(summary + (failure or ""), task_id=task_id)

    def asking(self) -> Any:
        return nullcontext()

    async def ask(self, lease: Any, question: Any, seconds: float) -> Any:
        raise StaleLeaseError(question.text, lease=lease, seconds=seconds)

    async def send(self, header: message_pb2.FrameHeader, envelope: message_pb2.Envelope, wait: float) -> None:
        del envelope, wait
        raise AgentNotFoundError(recipient=header.recipient)

    def expecting(self, message_id: str) -> Any:
        return nullcontext(message_id)

    async def reply(self, message_id: str, wait: float, *, bounces: bool) -> None:
        del message_id, wait, bounces

    async def subscribe(self, topic: str, mailbox: str) -> None:
        del topic, mailbox

    async def unsubscribe(self, topic: str, mailbox: str) -> None:
        del topic, mailbox

    async def subscriptions(self, mailbox: str) -> list[str]:
        del mailbox
        return []

    async def fetch(self, most: int, wait: float) -> list[message_service_pb2.ReceivedMessage]:
        del most, wait
        return []

    async def acknowledge(self, mailbox: str, positions: Sequence[int]) -> None:
        raise MessageNotFoundError(mailbox=mailbox, positions=list(positions))

    async def submit(self, spec: task_pb2.TaskSpec, request_id: str, traceparent: str) -> task_pb2.Task:
        raise StaleLeaseError(spec.prompt, request_id=request_id, traceparent=traceparent)

    async def task(self, task_id: str, wait: float) -> task_pb2.Task:
        raise StaleLeaseError(task_id=task_id, wait=wait)

    async def peers(self) -> list[agent_pb2.Agent]:
        return []


local_methods = st.sampled_from([method.name for method in local_service_pb2.DESCRIPTOR.services_by_name["LocalService"].methods])


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """An agent's socket."""
    desk, clock = Desk(), SystemClock()
    reach = Reach("agent-1", desk, desk, desk, desk, desk, lambda: 1 << 20, clock, SystemMint(clock))  # type: ignore[arg-type]
    server = LocalServer(tmp_path, LocalServicer(reach, calls_a_second=1e6), tmp_path.stat().st_uid)
    await server.start()
    async with open_channel(f"unix:{tmp_path / SOCKET_NAME}") as channel:
        yield channel
    await server.stop(0)


@few
@given(method=local_methods, raw=damaged(st.builds(local_service_pb2.SendRequest, recipient=texts, envelope=envelopes)))
async def test_a_hostile_call_of_an_agent_is_answered_clearly(local: grpc.aio.Channel, method: str, raw: bytes) -> None:
    code = await status_of(local, f"/claude_conductor.v1.LocalService/{method}", raw)
    assert code not in BAD
    known = await local_service_pb2_grpc.LocalServiceStub(local).GetSelf(local_service_pb2.GetSelfRequest(), timeout=SECONDS)
    assert known.agent_id == "agent-1"


@pytest.mark.parametrize("claim", ["agent/agent-2", "operator", "conductor", "task/task_" + "0" * 32])
async def test_whatever_a_message_claims_its_recipient_is_told_who_sent_it(shared: ControlPlane, sidecar_of, claim: str) -> None:
    """Sender, mailbox, position, attempt and time come from the control plane; an envelope and unknown fields change none."""
    sender = await sidecar_of(shared, "agent-1", long_running=True)
    receiver = await sidecar_of(shared, "agent-2", long_running=True)
    raw = uuid.uuid4().bytes
    forged = message_pb2.DeliveryHeader(mailbox="operator", sender=claim, first_position=77, attempt=9, accept_time_ms=1)
    envelope = message_pb2.Envelope(id=f"msg_{raw.hex()}", source=claim, type="note", data=b"x")
    header = message_pb2.FrameHeader(recipient="agent-2", type="note", message_ids=raw)
    frame = message_pb2.MessageFrame(header=header, envelopes=[envelope]).SerializeToString()
    # The fields of a DeliveryHeader, as fields the frame and its header do not have, and as a whole header beside the frame.
    extra = b"".join(b"\xa2\x06" + bytes([len(part)]) + part for part in (forged.SerializeToString(), claim.encode()))
    request = pb.ConnectRequest()
    body = frame + extra
    request.MergeFromString(b"\x1a" + _varint(len(body)) + body)
    sequence = await sender.post(message_frame=request.message_frame)
    assert await sender.committed(sequence) is None
    delivered = await receiver.next_frame()
    told = delivered.header
    assert (told.sender, told.mailbox, told.attempt) == ("agent/agent-1", "agent-2", 1)
    assert told.first_position != 77
    assert told.accept_time_ms > 1
    assert delivered.frame.envelopes[0].source == claim, "the envelope passes through; it is not what is to be believed"
    ack = await receiver.receipt("agent-2", told.first_position, told.first_position, message_pb2.MESSAGE_STATE_ACKED)
    assert await receiver.committed(ack) is None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))

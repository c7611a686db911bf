"""Messages through a real control plane process: accepted, delivered in order, refused, bounced, and across a kill -9."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest

from claude_conductor import ids
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import message_pb2, message_service_pb2, task_pb2
from tests.fakes.control_plane import ControlPlane
from tests.fakes.sidecar import Sidecar

EPHEMERAL = message_pb2.QUALITY_EPHEMERAL
ACKED = message_pb2.MESSAGE_STATE_ACKED
SEEN = message_pb2.MESSAGE_STATE_SEEN


async def state_of(control_plane: ControlPlane, message_id: bytes) -> message_pb2.MessageRecord:
    operator = control_plane.operator()
    request = message_service_pb2.GetMessageRequest(message_id=ids.message_id(message_id))
    return (await operator.messages.GetMessage(request, **operator.call)).records[0]


async def receive(agent: Sidecar, count: int) -> list[message_pb2.DeliveredFrame]:
    """Return frames until they hold `count` messages."""
    frames: list[message_pb2.DeliveredFrame] = []
    while sum(len(frame.frame.envelopes) for frame in frames) < count:
        frames.append(await agent.next_frame())
    return frames


def texts(frames: list[message_pb2.DeliveredFrame]) -> list[str]:
    return [envelope.data.decode() for frame in frames for envelope in frame.frame.envelopes]


async def test_a_message_reaches_the_mailbox_of_a_long_running_agent(control_plane: ControlPlane, sidecar) -> None:
    sender, receiver = await sidecar("agent-1", long_running=True), await sidecar("agent-2", long_running=True)
    sequence = await sender.say("agent-2", "one", "two")
    assert await sender.committed(sequence) is None
    (frame,) = await receive(receiver, 2)
    assert texts([frame]) == ["one", "two"]
    assert (frame.header.mailbox, frame.header.sender, frame.header.attempt) == ("agent-2", "agent/agent-1", 1)
    raw = frame.frame.header.message_ids[:16]
    assert (await state_of(control_plane, raw)).envelope.data == b"one"
    acked = await receiver.receipt("agent-2", frame.header.first_position, frame.header.first_position + 1, ACKED)
    assert await receiver.committed(acked) is None
    record = await state_of(control_plane, raw)
    assert record.state == ACKED
    assert [hop.state for hop in record.hops] == [message_pb2.MESSAGE_STATE_ACCEPTED, ACKED]


async def test_an_ephemeral_message_is_handed_over_or_refused(control_plane: ControlPlane, sidecar) -> None:
    sender, receiver = await sidecar("agent-1", long_running=True), await sidecar("agent-2", long_running=True)
    assert await sender.committed(await sender.say("agent-2", "now", quality=EPHEMERAL)) is None
    (frame,) = await receive(receiver, 1)
    assert frame.header.first_position == 0
    await receiver.disconnect()
    await control_plane_sees_lost(control_plane, "agent-2")
    refused = await sender.committed(await sender.say("agent-2", "now", quality=EPHEMERAL))
    assert refused is not None
    assert refused.reason == "AGENT_OFFLINE"


async def control_plane_sees_lost(control_plane: ControlPlane, agent_id: str) -> None:
    from claude_conductor.v1 import agent_pb2, agent_service_pb2, event_service_pb2

    operator = control_plane.operator()
    watching = operator.events.WatchEvents(
        event_service_pb2.WatchEventsRequest(after_cursor=0, type_prefixes=["agent."]), **operator.call
    )
    async for answer in watching:
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id)
        agent = (await operator.agents.GetAgent(request, **operator.call)).agent
        if agent.state == agent_pb2.AGENT_STATE_LOST:
            watching.cancel()
            return
        assert answer.event.cursor


async def test_what_cannot_be_delivered_is_refused_and_holds_up_nothing(control_plane: ControlPlane, sidecar) -> None:
    sender, receiver = await sidecar("agent-1", long_running=True), await sidecar("agent-2", long_running=True)
    await sidecar("agent-3")
    repeated = uuid.uuid4().bytes
    cases = [
        (await sender.say("nobody", "x"), "AGENT_NOT_FOUND"),
        (await sender.say("agent-3", "x"), "AGENT_NOT_FOUND"),
        (await sender.say("task/task_" + "0" * 32, "x"), "TASK_NOT_FOUND"),
        (await sender.say("Not A Name", "x"), "INVALID_ARGUMENT"),
        (await sender.say("agent-2", "x", hop_count=17), "HOP_LIMIT_REACHED"),
        (await sender.say("agent-2", "x", expire_time_ms=1), "MESSAGE_EXPIRED"),
        (await sender.say("agent-2", "x" * (1100 << 10)), "PAYLOAD_TOO_LARGE"),
        (await sender.say("agent-2", "first", ids=[repeated]), None),
        (await sender.say("agent-2", "repeat", ids=[repeated]), None),
        (await sender.say("agent-2", "last"), None),
    ]
    for sequence, reason in cases:
        refused = await sender.committed(sequence)
        assert (refused.reason if refused else None) == reason
    assert texts(await receive(receiver, 2)) == ["first", "last"]


async def test_a_frame_whose_ids_do_not_fit_its_envelopes_is_refused(control_plane: ControlPlane, sidecar) -> None:
    sender = await sidecar("agent-1", long_running=True)
    head = message_pb2.FrameHeader(recipient="agent-1", type="note", message_ids=uuid.uuid4().bytes)
    envelopes = [message_pb2.Envelope(data=b"1"), message_pb2.Envelope(data=b"2")]
    sequence = await sender.post(message_frame=message_pb2.MessageFrame(header=head, envelopes=envelopes))
    refused = await sender.committed(sequence)
    assert refused is not None
    assert refused.reason == "MALFORMED_FRAME"


async def test_messages_to_a_task_reach_whoever_has_it_and_bounce_when_it_ends(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    sender, worker = await sidecar("agent-1", long_running=True), await sidecar("agent-2")
    task = await operator.submit(agent_id="agent-2")
    assignment = await worker.next_assignment()
    await worker.started(assignment)
    assert await sender.committed(await sender.say(assignment.mailbox, "hello", "unread")) is None
    (frame,) = await receive(worker, 2)
    assert frame.header.mailbox == f"task/{task.task_id}"
    await worker.receipt(frame.header.mailbox, frame.header.first_position, frame.header.first_position, ACKED)
    await worker.say("agent-1", "answer", task_id=task.task_id)
    (answer,) = await receive(sender, 1)
    assert answer.header.sender == f"task/{task.task_id}"
    await worker.completed(assignment)
    await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    (bounced,) = await receive(sender, 1)
    assert bounced.header.sender == "conductor"
    assert bounced.frame.header.type == "conductor.bounced"
    unread = frame.frame.header.message_ids[16:32]
    assert [envelope.correlation_id for envelope in bounced.frame.envelopes] == [ids.message_id(unread)]
    assert (await state_of(control_plane, unread)).state == message_pb2.MESSAGE_STATE_BOUNCED
    late = await sender.committed(await sender.say(assignment.mailbox, "too late"))
    assert late is not None
    assert late.reason == "AGENT_NOT_FOUND"


async def test_an_agent_speaks_only_for_tasks_it_had(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    other, worker = await sidecar("agent-1"), await sidecar("agent-2")
    await operator.submit(agent_id="agent-2")
    assignment = await worker.next_assignment()
    refused = await other.committed(await other.say("operator", "forged", task_id=assignment.lease.task_id))
    assert refused is not None
    assert refused.reason == "PERMISSION_DENIED"
    refused = await other.committed(await other.receipt(assignment.mailbox, 1, 1, ACKED))
    assert refused is not None
    assert refused.reason == "PERMISSION_DENIED"


async def test_an_operator_sends_fetches_and_acknowledges(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    agent = await sidecar("agent-1", long_running=True)
    request = message_service_pb2.SendMessageRequest(recipient="agent-1", envelope=message_pb2.Envelope(type="q", data=b"hi"))
    sent = await operator.messages.SendMessage(request, **operator.call)
    (frame,) = await receive(agent, 1)
    assert frame.header.sender == "operator"
    assert frame.frame.envelopes[0].id == sent.message_id
    await agent.say("operator", "one", "two")
    wait = message_service_pb2.FetchMessagesRequest(wait={"seconds": 10})
    fetched = (await operator.messages.FetchMessages(wait, **operator.call)).messages
    assert [(message.sender, message.envelope.data, message.attempt) for message in fetched] == [
        ("agent/agent-1", b"one", 1),
        ("agent/agent-1", b"two", 1),
    ]
    acknowledge = message_service_pb2.AcknowledgeMessagesRequest(positions=[fetched[0].position])
    await operator.messages.AcknowledgeMessages(acknowledge, **operator.call)
    left = (await operator.messages.FetchMessages(message_service_pb2.FetchMessagesRequest(), **operator.call)).messages
    assert [(message.envelope.data, message.attempt) for message in left] == [(b"two", 2)]
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await operator.messages.SendMessage(message_service_pb2.SendMessageRequest(recipient="nobody"), **operator.call)
    assert from_call(unknown.value).reason == "AGENT_NOT_FOUND"
    listed = await operator.messages.ListMessages(message_service_pb2.ListMessagesRequest(recipient="operator"), **operator.call)
    assert len(listed.records) == 2


async def test_messages_wait_for_an_agent_that_is_away_and_come_again_to_its_next_process(
    control_plane: ControlPlane, sidecar
) -> None:
    sender, receiver = await sidecar("agent-1", long_running=True), await sidecar("agent-2", long_running=True)
    await receiver.disconnect()
    assert await sender.committed(await sender.say("agent-2", "a", "b")) is None
    await receiver.connect()
    (frame,) = await receive(receiver, 2)
    assert frame.header.attempt == 1
    await receiver.receipt("agent-2", frame.header.first_position, frame.header.first_position, ACKED)
    await receiver.connect()  # the same process: it has them, so they do not come again
    assert await sender.committed(await sender.say("agent-2", "c")) is None
    assert texts(await receive(receiver, 1)) == ["c"]
    last = frame.header.first_position + 2
    assert await receiver.committed(await receiver.receipt("agent-2", last - 1, last, SEEN)) is None
    receiver.die()
    await receiver.connect()  # a new process: what was not acknowledged comes again, visibly
    again = await receive(receiver, 2)
    assert texts(again) == ["b", "c"]
    assert [frame.header.attempt for frame in again] == [2, 2]
    assert again[0].header.first_position == frame.header.first_position + 1


async def test_a_receiver_without_credit_is_not_flooded(control_plane: ControlPlane, sidecar) -> None:
    sender = await sidecar("agent-1", long_running=True)
    receiver = await sidecar("agent-2", long_running=True, credit=(3, 1 << 20))
    for number in range(10):
        await sender.say("agent-2", str(number))
    assert await sender.committed(sender.sequence) is None
    first = texts(await receive(receiver, 3))
    assert receiver.delivered.empty()
    from claude_conductor.v1 import session_service_pb2 as session_pb

    await receiver.send(session_pb.ConnectRequest(credit=session_pb.Credit(messages=100, bytes=1 << 20)))
    assert first + texts(await receive(receiver, 7)) == [str(number) for number in range(10)]


async def test_a_thousand_messages_stay_in_order_across_a_kill_of_the_control_plane(control_plane: ControlPlane, sidecar) -> None:
    sender, receiver = await sidecar("agent-1", long_running=True), await sidecar("agent-2", long_running=True)
    for number in range(500):
        await sender.say("agent-2", str(number))
    got = await receive(receiver, 100)
    control_plane.kill()
    for number in range(500, 1000):
        await sender.say("agent-2", str(number))
    await control_plane.start()
    await receiver.connect()
    await sender.connect()
    assert await sender.committed(sender.sequence) is None
    while not got or texts([got[-1]]) != ["999"]:
        got.append(await receiver.next_frame())
    assert texts(got) == [str(number) for number in range(1000)]
    positions = [frame.header.first_position for frame in got]
    assert positions == list(range(1, 1001))


async def test_a_sidecar_that_hangs_up_while_it_is_written_to_is_no_error(control_plane: ControlPlane, sidecar) -> None:
    """The one write that breaks is made to happen in tests/unit/controlplane/api/test_session_servicer.py; here it is likely."""
    sender, receiver = await sidecar("agent-1", long_running=True), await sidecar("agent-2", long_running=True)
    for number in range(60):
        sequence = await sender.say("agent-2", *[f"{number} {index} {'x' * 1000}" for index in range(50)])
        if number in {20, 40}:
            await receive(receiver, 1)  # so it is being written to
            await receiver.disconnect()
            await receiver.connect()
    assert await sender.committed(sequence) is None
    await control_plane_sees_receipt(receiver)
    assert "a call failed" not in control_plane.log()


async def control_plane_sees_receipt(receiver: Sidecar) -> None:
    """Wait until everything has come and its receipt was taken."""
    async with asyncio.timeout(15):
        while receiver.positions.get("agent-2", 0) < 3000:
            await receive(receiver, 1)
    assert await receiver.committed(await receiver.receipt("agent-2", 1, 3000, ACKED)) is None


async def test_the_operator_passes_a_message_on_with_the_way_it_made_and_no_farther_than_the_limit(
    control_plane: ControlPlane, sidecar
) -> None:
    agent, operator = await sidecar("agent-1", long_running=True), control_plane.operator()
    raw, spent, new = (uuid.uuid4().bytes for _ in range(3))
    assert await agent.committed(await agent.say("operator", "round", ids=[raw], hop_count=3)) is None
    assert await agent.committed(await agent.say("operator", "spent", ids=[spent], hop_count=16)) is None
    fetching = message_service_pb2.FetchMessagesRequest()
    fetched = (await operator.messages.FetchMessages(fetching, **operator.call)).messages
    positions = [each.position for each in fetched]
    acknowledging = message_service_pb2.AcknowledgeMessagesRequest(positions=positions)
    await operator.messages.AcknowledgeMessages(acknowledging, **operator.call)

    async def pass_on(message_id: bytes) -> None:
        envelope = message_pb2.Envelope(id=ids.message_id(message_id))
        request = message_service_pb2.SendMessageRequest(recipient="agent-1", envelope=envelope)
        await operator.messages.SendMessage(request, **operator.call)

    await pass_on(new)
    await pass_on(raw)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pass_on(spent)
    assert from_call(caught.value).reason == "HOP_LIMIT_REACHED"
    assert [frame.frame.header.hop_count for frame in await receive(agent, 2)] == [0, 4]


async def test_what_the_operator_is_answered_counts_as_read(control_plane: ControlPlane, sidecar) -> None:
    agent, operator = await sidecar("agent-1", long_running=True), control_plane.operator()
    question, answer = uuid.uuid4().bytes, uuid.uuid4().bytes
    request = message_service_pb2.MessageServiceRequestRequest(
        recipient="agent-1", envelope=message_pb2.Envelope(id=ids.message_id(question))
    )
    asking = asyncio.ensure_future(operator.messages.Request(request, **operator.call))
    await receive(agent, 1)
    head = message_pb2.FrameHeader(recipient="operator", message_ids=answer, hop_count=16)
    envelope = message_pb2.Envelope(id=ids.message_id(answer), correlation_id=ids.message_id(question))
    await agent.committed(await agent.post(message_frame=message_pb2.MessageFrame(header=head, envelopes=[envelope])))
    reply = (await asking).reply
    passing = message_service_pb2.SendMessageRequest(recipient="agent-1", envelope=reply.envelope)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await operator.messages.SendMessage(passing, **operator.call)
    assert from_call(caught.value).reason == "HOP_LIMIT_REACHED"


async def test_an_ephemeral_message_to_the_operator_goes_to_every_open_stream_and_to_no_mailbox(
    control_plane: ControlPlane, sidecar
) -> None:
    agent, operator = await sidecar("agent-1", long_running=True), control_plane.operator()
    receiving = message_service_pb2.ReceiveMessagesRequest()
    streams = [operator.messages.ReceiveMessages(receiving, **operator.call) for _ in range(2)]
    for stream in streams:
        await stream.initial_metadata()
    await agent.say("operator", "stored")
    for stream in streams:
        stored = await stream.read()
        assert (stored.message.envelope.data, stored.cursor) == (b"stored", stored.message.position)
    await agent.say("operator", "one", "two", quality=EPHEMERAL)
    assert await agent.committed(await agent.say("broadcast", "three", quality=EPHEMERAL)) is None
    for stream in streams:
        passing = [await stream.read() for _ in range(2)]
        assert [each.message.envelope.data for each in passing] == [b"one", b"two"]
        assert {(each.message.position, each.message.attempt, each.message.sender, each.cursor) for each in passing} == {
            (0, 1, "agent/agent-1", stored.cursor)
        }
    listing = message_service_pb2.ListMessagesRequest(recipient="operator")
    (record,) = (await operator.messages.ListMessages(listing, **operator.call)).records
    assert record.position == stored.cursor
    for stream in streams:
        stream.cancel()
    async with asyncio.timeout(10):
        while (refused := await agent.committed(await agent.say("operator", "late", quality=EPHEMERAL))) is None:
            pass
    assert refused.reason == "AGENT_OFFLINE"

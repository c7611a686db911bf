"""Dead letters and receiving, through a real control plane: counted, sent again, removed, resumed, traced."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from claude_conductor import ids
from claude_conductor.client import Conductor
from claude_conductor.errors import ConductorError
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import event_service_pb2, message_pb2, message_service_pb2, task_pb2
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane
from tests.fakes.sidecar import Sidecar

DEAD, SEEN, ACKED = message_pb2.MESSAGE_STATE_DEAD, message_pb2.MESSAGE_STATE_SEEN, message_pb2.MESSAGE_STATE_ACKED
AT_SIDECAR = message_pb2.MESSAGE_STATE_AT_SIDECAR


def client(plane: ControlPlane) -> Conductor:
    return Conductor.connect(plane.address, OPERATOR_TOKEN)


async def fetched(agent: Sidecar, attempt: int) -> message_pb2.DeliveredFrame:
    """Take a frame and show it to an agent process."""
    frame = await agent.next_frame()
    assert frame.header.attempt == attempt
    first = frame.header.first_position
    receipt = {"mailbox": frame.header.mailbox, "from_position": first, "to_position": first + len(frame.frame.envelopes) - 1}
    sequence = await agent.post(receipts={"receipts": [{**receipt, "state": SEEN, "attempt": attempt}]})
    assert await agent.committed(sequence) is None
    return frame


async def die_often(agent: Sidecar, times: int) -> None:
    """Show a message to so many processes in new lives of the sidecar, none of which acknowledges it."""
    for attempt in range(1, times + 1):
        await fetched(agent, attempt)
        agent.die()
        await agent.connect()


async def test_sessions_that_break_five_times_make_no_dead_letter(control_plane: ControlPlane, sidecar) -> None:
    receiver = await sidecar("agent-2", long_running=True)
    async with client(control_plane) as conductor:
        sent = await conductor.messages.send("agent-2", b"hello")
        for _ in range(7):
            frame = await receiver.next_frame()
            assert frame.header.attempt == 1
            await receiver.committed(await receiver.receipt("agent-2", 1, 1, AT_SIDECAR))
            receiver.die()
            await receiver.connect()
        (record,) = await conductor.messages.get(sent.message_id)
        assert (record.state, record.attempts) == (AT_SIDECAR, 0)


async def test_a_dead_letter_is_listed_sent_again_and_removed(control_plane: ControlPlane, sidecar) -> None:
    receiver = await sidecar("agent-2", long_running=True)
    async with client(control_plane) as conductor:
        sent = await conductor.messages.send("agent-2", b"poison")
        await die_often(receiver, 5)
        await conductor.messages.send("agent-2", b"next")
        assert (await receiver.next_frame()).frame.envelopes[0].data == b"next"
        (dead,) = await conductor.messages.list(states=[DEAD], recipient="agent-2")
        assert (dead.message_id, dead.attempts, dead.redrives) == (sent.message_id, 5, 0)
        assert "5 times" in dead.reason
        (outcome,) = await conductor.messages.redrive([sent.message_id], request_id="wish-7")
        assert (outcome.reason, outcome.position) == ("", 3)
        again = await fetched(receiver, 1)
        assert (again.frame.envelopes[0].data, again.header.sender) == (b"poison", "operator")
        (record,) = await conductor.messages.get(sent.message_id)
        assert (record.redrives, record.attempts) == (1, 1)
        words = [message_pb2.MessageState.Name(hop.state).removeprefix("MESSAGE_STATE_") for hop in record.hops]
        assert words == ["ACCEPTED", *["SEEN"] * 5, "DEAD", "ACCEPTED", "SEEN"]
        (outcome,) = await conductor.messages.redrive([sent.message_id])
        assert outcome.reason == "MESSAGE_NOT_DEAD"
        receiver.die()
        await receiver.connect()
        await receiver.next_frame()  # `next`, which nobody was shown
        for attempt in range(2, 6):
            await fetched(receiver, attempt)
            receiver.die()
            await receiver.connect()
            await receiver.next_frame()
        await until_dead(conductor, 2)
        (outcome,) = await conductor.messages.purge([sent.message_id])
        assert outcome.reason == ""
        assert await conductor.messages.list(states=[DEAD]) == []
        assert await kinds(control_plane, sent.message_id) == [
            "message.dead",
            "message.redriven",
            "message.dead",
            "message.purged",
        ]


async def until_dead(conductor: Conductor, times: int) -> None:
    """Wait until so many dead letters were told of."""
    async with asyncio.timeout(20), aclosing(conductor.events.watch(after=0, types=["message.dead"])) as events:
        for _ in range(times):
            await anext(events)


async def kinds(plane: ControlPlane, message_id: str) -> list[str]:
    """Return the events about a message, until it was removed."""
    operator = plane.operator()
    request = event_service_pb2.WatchEventsRequest(after_cursor=0, type_prefixes=["message."])
    found: list[str] = []
    async for answer in operator.events.WatchEvents(request, **operator.call):
        if answer.event.details["message_id"] == message_id:
            found.append(answer.event.type)
        if found[-1:] == ["message.purged"]:
            break
    return found


async def test_a_dead_letter_of_a_task_that_ended_stays_dead_and_says_why(control_plane: ControlPlane, sidecar) -> None:
    operator, worker = control_plane.operator(), await sidecar("agent-2")
    task = await operator.submit(agent_id="agent-2")
    assignment = await worker.next_assignment()
    async with client(control_plane) as conductor:
        sent = await conductor.messages.send(assignment.mailbox, b"poison")
        await fetched(worker, 1)
        gave_up = {"mailbox": assignment.mailbox, "from_position": 1, "to_position": 1, "state": DEAD, "attempt": 5}
        await worker.post(receipts={"receipts": [{**gave_up, "reason": "too often", "last_error": "exit code 7"}]})
        await worker.completed(assignment)
        await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
        (outcome,) = await conductor.messages.redrive([sent.message_id])
        assert (outcome.reason, outcome.recipient) == ("AGENT_NOT_FOUND", assignment.mailbox)
        assert "ended" in outcome.message
        (record,) = await conductor.messages.get(sent.message_id)
        assert (record.state, record.reason, record.last_error, record.attempts) == (DEAD, "too often", "exit code 7", 5)


async def test_wrong_wishes_are_refused(shared: ControlPlane) -> None:
    operator = shared.operator()
    cases: list[Any] = [
        message_service_pb2.RedriveMessagesRequest(),
        message_service_pb2.RedriveMessagesRequest(message_ids=["msg_0"]),
        message_service_pb2.RedriveMessagesRequest(message_ids=[ids.message_id(bytes(16))] * 1001),
        message_service_pb2.RedriveMessagesRequest(message_ids=[ids.message_id(bytes(16))], request_id="x" * 129),
    ]
    for request in cases:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await operator.messages.RedriveMessages(request, **operator.call)
        assert from_call(refused.value).reason == "INVALID_ARGUMENT"
    async with client(shared) as conductor:
        (outcome,) = await conductor.messages.purge([ids.message_id(bytes(16))])
        assert outcome.reason == "MESSAGE_NOT_FOUND"


async def texts(conductor: Conductor, count: int, **how: Any) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(40), aclosing(conductor.messages.receive(**how)) as stream:
        async for message in stream:
            found.append(message.envelope.data.decode())
            if len(found) == count:
                break
    return found


async def test_receiving_goes_on_over_kills_and_drains_of_the_control_plane(control_plane: ControlPlane) -> None:
    async with client(control_plane) as conductor:
        receiving = asyncio.create_task(texts(conductor, 30))
        operator = control_plane.operator()
        for number in range(30):
            envelope = message_pb2.Envelope(data=str(number).encode())
            request = message_service_pb2.SendMessageRequest(recipient="operator", envelope=envelope)
            await operator.messages.SendMessage(request, **operator.call)
            if number in (7, 17):
                if number == 7:
                    control_plane.kill()
                else:
                    assert await asyncio.to_thread(control_plane.terminate) == 0
                await control_plane.start()
        assert await receiving == [str(number) for number in range(30)]
        gaps: list[Any] = []
        await conductor.messages.acknowledge([28])
        assert await texts(conductor, 2, after=27, on_gap=gaps.append) == ["28", "29"]
        assert [(getattr(gap, "from"), gap.to) for gap in gaps] == [(28, 28)]


async def test_a_drain_is_told_on_the_stream(control_plane: ControlPlane) -> None:
    operator = control_plane.operator()
    request = message_service_pb2.ReceiveMessagesRequest()
    call = operator.messages.ReceiveMessages(request, **operator.call)
    await call.initial_metadata()
    stopping = asyncio.create_task(asyncio.to_thread(control_plane.terminate))
    answer = await call.read()
    assert answer.WhichOneof("item") == "move"
    assert await call.read() is grpc.aio.EOF
    assert await stopping == 0


async def test_a_cursor_of_an_earlier_life_of_a_forgetful_store_is_a_gap(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path / "home", store="memory")
    await plane.start()
    async with client(plane) as conductor:
        for number in range(5):
            await conductor.messages.send("operator", str(number).encode())
        assert len(await texts(conductor, 5)) == 5
        plane.kill()
        await plane.start()
        await conductor.messages.send("operator", b"new")
        gaps: list[Any] = []
        assert await texts(conductor, 1, after=5, on_gap=gaps.append) == ["new"]
        assert [(getattr(gap, "from"), gap.to) for gap in gaps] == [(2, 5)]
        with pytest.raises(ConductorError) as refused:
            await texts(conductor, 1, after=1 << 63)
        assert refused.value.reason == "INVALID_ARGUMENT"
    await plane.close()


async def test_a_receiver_that_does_not_read_costs_the_control_plane_no_memory(control_plane: ControlPlane) -> None:
    assert control_plane.process is not None
    pid = control_plane.process.pid

    def resident() -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async with client(control_plane) as conductor:
        for _ in range(40):
            await conductor.messages.send("operator", b"x" * (1 << 20), content_type="application/octet-stream")
        operator = control_plane.operator()
        before = resident()
        calls = [
            operator.messages.ReceiveMessages(message_service_pb2.ReceiveMessagesRequest(), **operator.call) for _ in range(4)
        ]
        for call in calls:
            assert (await call.read()).HasField("message")
        await conductor.messages.send("operator", b"last")
        assert len(await texts(conductor, 41)) == 41  # somebody who reads is not held up
        assert resident() - before < 64 << 20
        for call in calls:
            call.cancel()

"""Topics and everyone through a real control plane process and real sessions: who gets what, in which order, across a kill -9."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from claude_conductor import errors, ids
from claude_conductor.client.conductor import Conductor
from claude_conductor.clock import SystemClock
from claude_conductor.v1 import message_pb2, message_service_pb2
from controlplane.backends.sqlite.stores import open_sqlite
from controlplane.domain.message import Accepted, IncomingFrame
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.subscription_store import Subscription
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, sidecar_token
from tests.fakes.sidecar import Sidecar
from tests.fakes.waiting import eventually

EPHEMERAL = message_pb2.QUALITY_EPHEMERAL


class Addressing:
    """The calls a sidecar makes for its agent."""

    def __init__(self, control_plane: ControlPlane, agent_id: str) -> None:
        self._client = Conductor.connect(control_plane.address, sidecar_token(agent_id), environment={})
        self._stub = self._client.messages._stub
        self._agent_id = agent_id

    async def subscribe(self, topic: str, mailbox: str = "") -> None:
        request = message_service_pb2.MessageServiceSubscribeRequest(topic=topic, mailbox=mailbox or self._agent_id)
        await self._client._caller.unary(self._stub.Subscribe, request)

    async def close(self) -> None:
        await self._client.close()


async def subscribe(control_plane: ControlPlane, topic: str, *agents: str) -> None:
    for agent in agents:
        caller = Addressing(control_plane, agent)
        await caller.subscribe(topic)
        await caller.close()


def operator(control_plane: ControlPlane) -> Conductor:
    return Conductor.connect(control_plane.address, OPERATOR_TOKEN, environment={})


async def receive(agent: Sidecar, count: int) -> list[str]:
    """Return the texts of the next `count` messages."""
    texts: list[str] = []
    while len(texts) < count:
        frame = await agent.next_frame()
        texts += [envelope.data.decode() for envelope in frame.frame.envelopes]
    return texts


async def test_a_topic_reaches_its_subscribers_and_the_sender_is_told_how_many(control_plane: ControlPlane, sidecar) -> None:
    sender, one, two = [await sidecar(f"agent-{number}", long_running=True) for number in (1, 2, 3)]
    await subscribe(control_plane, "news", "agent-1", "agent-2", "agent-3")
    raw = uuid.uuid4().bytes
    sequence = await sender.say("topic/news", "hello", ids=[raw])
    assert await sender.committed(sequence) is None
    assert sender.published == {sequence: 2}
    frame = await one.next_frame()
    assert (frame.header.mailbox, frame.header.sender, frame.frame.header.recipient) == ("agent-2", "agent/agent-1", "topic/news")
    assert await receive(two, 1) == ["hello"]
    async with operator(control_plane) as conductor:
        await conductor.messages.subscribe("news")
        sent = await conductor.messages.send("topic/news", b"from above")
        assert (sent.recipients, sent.duplicate) == (3, False)
        again = await conductor.messages.send("topic/news", b"from above", message_id=sent.message_id)
        assert (again.recipients, again.duplicate) == (3, True)
        assert (await conductor.messages.send("topic/empty", b"x")).recipients == 0
        await sender.say("topic/news", "for all")
        (received,) = await conductor.messages.fetch(wait=10)
        assert (received.addressed_to, received.envelope.data) == ("topic/news", b"for all")
        await one.receipt("agent-2", frame.header.first_position, frame.header.first_position, message_pb2.MESSAGE_STATE_ACKED)
        await one.until(lambda: not one.journal)
        records = {record.recipient: record.state for record in await conductor.messages.get(ids.message_id(raw))}
        assert records == {"agent-2": message_pb2.MESSAGE_STATE_ACKED, "agent-3": message_pb2.MESSAGE_STATE_ACCEPTED}
    assert await receive(one, 2) == ["from above", "for all"]


async def test_a_message_for_nobody_is_known_and_one_nobody_sent_is_not(control_plane: ControlPlane) -> None:
    async with operator(control_plane) as conductor:
        sent = await conductor.messages.send("topic/empty", b"x")
        assert await conductor.messages.get(sent.message_id) == []
        with pytest.raises(errors.MessageNotFoundError):
            await conductor.messages.get("msg_" + "0" * 32)
        with pytest.raises(errors.InvalidArgumentError):
            await conductor.messages.send("topic/Not A Name", b"x")


async def test_a_broadcast_reaches_everyone_who_has_a_mailbox_but_its_sender(control_plane: ControlPlane, sidecar) -> None:
    sender, long = await sidecar("agent-1", long_running=True), await sidecar("agent-2", long_running=True)
    worker = await sidecar("agent-3")
    people = control_plane.operator()
    await people.submit(agent_id="agent-3")
    assignment = await worker.next_assignment()
    sequence = await sender.say("broadcast", "all hands")
    assert await sender.committed(sequence) is None
    assert sender.published == {sequence: 2}
    assert await receive(long, 1) == await receive(worker, 1) == ["all hands"]
    sequence = await worker.say("broadcast", "done", task_id=assignment.lease.task_id)
    assert await receive(long, 1) == await receive(sender, 1) == ["done"]
    await worker.say("broadcast", "now", task_id=assignment.lease.task_id, quality=EPHEMERAL)
    frame = await long.next_frame()
    assert (frame.header.first_position, frame.header.sender) == (0, f"task/{assignment.lease.task_id}")
    assert sender.delivered.qsize() <= 1
    assert worker.delivered.empty()


async def test_subscriptions_outlive_the_control_plane_and_end_with_their_task(control_plane: ControlPlane, sidecar) -> None:
    worker = await sidecar("agent-3")
    people = control_plane.operator()
    task = await people.submit(agent_id="agent-3")
    assignment = await worker.next_assignment()
    caller = Addressing(control_plane, "agent-3")
    await caller.subscribe("news", assignment.mailbox)
    with pytest.raises(errors.PermissionDeniedError):
        await caller.subscribe("news", "agent-1")
    await caller.close()
    await worker.disconnect()
    control_plane.kill()
    await control_plane.start()
    await worker.connect()
    async with operator(control_plane) as conductor:
        found = await conductor.messages.subscriptions()
        assert [(each.topic, each.mailbox) for each in found] == [("news", f"task/{task.task_id}")]
        assert (await conductor.messages.send("topic/news", b"still here")).recipients == 1
        assert await receive(worker, 1) == ["still here"]
        assert await worker.committed(await worker.completed(assignment)) is None
        assert (await conductor.messages.send("topic/news", b"too late")).recipients == 0
        assert await conductor.messages.subscriptions() == []


async def test_the_bound_of_subscriptions_is_a_setting(tmp_path: Path, sidecar_of) -> None:
    plane = ControlPlane(tmp_path / "home", limits={"subscriptions": 2, "subscribers": 1})
    await plane.start()
    await sidecar_of(plane, "agent-1", long_running=True)
    async with operator(plane) as conductor:
        for topic in ("a", "b", "a"):
            await conductor.messages.subscribe(topic)
        with pytest.raises(errors.SubscriptionLimitError, match="limit=2"):
            await conductor.messages.subscribe("c")
        with pytest.raises(errors.SubscriptionLimitError, match="topic=a"):
            await subscribe(plane, "a", "agent-1")
    await plane.close()


async def test_direct_and_topic_messages_of_one_sender_stay_in_order_across_kills(control_plane: ControlPlane, sidecar) -> None:
    sender, one, two = [await sidecar(f"agent-{number}", long_running=True) for number in (1, 2, 3)]
    await subscribe(control_plane, "news", "agent-2", "agent-3")
    got: dict[str, list[str]] = {"agent-2": [], "agent-3": []}

    async def gather(agent: Sidecar) -> None:
        while True:
            got[agent.agent_id] += await receive(agent, 1)

    reading = [asyncio.create_task(gather(agent), name=agent.agent_id) for agent in (one, two)]
    for number in range(300):
        recipient = "agent-2" if number % 3 == 0 else "agent-3" if number % 7 == 0 else "topic/news"
        await sender.say(recipient, str(number))
        if number in (100, 200):
            await sender.until(lambda number=number: len(sender.journal) < number // 2)
            control_plane.kill()
            await control_plane.start()
            for agent in (one, two, sender):
                await agent.connect()
    assert await sender.committed(sender.sequence) is None
    expected = {
        "agent-2": [str(number) for number in range(300) if number % 3 == 0 or number % 7],
        "agent-3": [str(number) for number in range(300) if number % 3],
    }
    await eventually(lambda: all(len(got[name]) >= len(texts) for name, texts in expected.items()))
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    assert got == expected


async def test_a_publication_that_was_accepted_and_not_copied_before_a_kill_is_copied_at_the_next_start(
    tmp_path: Path, sidecar_of
) -> None:
    plane = ControlPlane(tmp_path / "home")
    stores = open_sqlite(plane.home / "state" / "conductor.db", SystemClock(), MailboxLimits())
    await stores.subscriptions.add("default", Subscription("news", "agent-1"))
    raw, now_ms = uuid.uuid4().bytes, int(SystemClock().now() * 1000)
    body = message_pb2.MessageFrame(
        header=message_pb2.FrameHeader(recipient="topic/news", message_ids=raw), envelopes=[message_pb2.Envelope(data=b"saved")]
    ).SerializeToString()
    boxes = ("default/agent-1", "default/agent-2", "default/agent-3")
    frame = IncomingFrame("default/topic/news", "operator", "note", raw, now_ms + 60_000, body, now_ms, boxes)
    outcome, number = await stores.mailboxes.publish(frame)
    assert outcome == Accepted(0, 3)
    await stores.mailboxes.copy(number, 1, now_ms)  # and then it was killed
    await stores.close()
    for _ in range(2):
        await plane.start()
        agents = [await sidecar_of(plane, f"agent-{number}", long_running=True) for number in (1, 2, 3)]
        async with operator(plane) as conductor:
            again = await conductor.messages.send("topic/news", b"saved", message_id=ids.message_id(raw))
            assert (again.duplicate, again.recipients) == (True, 3)
            assert len(await conductor.messages.get(ids.message_id(raw))) == 3
        for agent in agents:
            assert await receive(agent, 1) == ["saved"]
            assert agent.delivered.empty()
            await agent.disconnect()
        plane.kill()
    await plane.close()

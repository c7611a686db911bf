"""A message to many reaches each of them once, in its sender's order, and whatever stops in between is gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from claude_conductor.clock import SystemClock
from claude_conductor.errors import (
    AgentNotFoundError,
    ConductorError,
    InvalidArgumentError,
    PermissionDeniedError,
    StoreUnavailableError,
)
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from claude_conductor.telemetry.traces import PassingTracer
from claude_conductor.v1 import message_pb2
from controlplane.app import Parts, build
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.audit_store import MemoryAuditStore
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.identity_store import MemoryIdentityStore
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.memory.schedule_store import MemoryScheduleStore
from controlplane.backends.memory.subscription_store import MemorySubscriptionStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.message import (
    Accepted,
    Copy,
    Duplicate,
    Header,
    IncomingFrame,
    Outcome,
    Quality,
    Record,
    State,
    StoredFrame,
)
from controlplane.domain.routing import Shape
from controlplane.domain.task import FailureKind, Lease, Result, Spec, Task
from controlplane.domain.task import State as TaskState
from controlplane.domain.task_machine import Completed, Leased, admit
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import Subscription, SubscriptionLimits
from controlplane.service.relay import Offer
from controlplane.service.sessions import Hello
from controlplane.service.subscribing import Subscribing
from controlplane.service.work import Work
from controlplane.settings import Settings
from tests.fakes.waiting import eventually

NOBODY = AgentId("")


class Noting:
    """Notes what a store is asked."""

    def __init__(self, *arguments: object) -> None:
        self.asked: list[str] = []
        super().__init__(*arguments)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in {"append", "read", "publish", "copy", "publication", "find", "mailboxes", "list"}:
            self.asked.append(name)
        return super().__getattribute__(name)


class Subscriptions(Noting, MemorySubscriptionStore):
    """The memory store."""


class Mailboxes(Noting, MemoryMailboxStore):
    """Makes copies when its gate is open, or not at all; remembers how many at once."""

    def __init__(self, limits: MailboxLimits) -> None:
        super().__init__(limits)
        self.gate, self.reached = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.away = 0
        self.unsure: set[str] = set()
        """Methods that do what is asked and then fail, once each."""
        self.sizes: list[int] = []

    async def copy(self, number: int, most: int, now_ms: int) -> tuple[Sequence[Copy], int]:
        self.reached.set()
        await self.gate.wait()
        if self.away:
            self.away -= 1
            raise StoreUnavailableError
        made = await super().copy(number, most, now_ms)
        self._perhaps_fail("copy")
        self.sizes.append(len(made[0]))
        return made

    async def publish(self, frame: IncomingFrame) -> tuple[Outcome, int]:
        published = await super().publish(frame)
        self._perhaps_fail("publish")
        return published

    def _perhaps_fail(self, method: str) -> None:
        if method in self.unsure:
            self.unsure.remove(method)
            raise StoreUnavailableError


@dataclass(eq=False)
class Link:
    """Keeps what is delivered to an agent."""

    room: int = 1 << 20
    delivered: list[StoredFrame] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        packed = b"".join(frame.message_ids for frame in self.delivered)
        return [int.from_bytes(packed[start : start + 16], "big") for start in range(0, len(packed), 16)]

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        del after_position
        self.delivered.append(frame)

    def assign(self, task: Task, traceparent: str) -> None:
        """Not looked at."""

    def cancel(self, lease: Lease, grace: float, reason: str, kind: FailureKind) -> None:
        """Not looked at."""

    def revoke(self, leases: Sequence[Lease]) -> None:
        """Not looked at."""

    def move(self, deadline: float) -> None:
        """Not looked at."""

    def end(self, reason: str) -> None:
        """Not looked at."""


@dataclass
class Plane:
    """A control plane without its door."""

    parts: Parts
    mailboxes: Mailboxes
    subscriptions: Subscriptions
    subscribing: Subscribing
    tasks: MemoryTaskStore

    async def connect(self, agent_id: str, *, long_running: bool = True) -> Link:
        link = Link()
        hello = Hello(1000, Incarnation(f"life of {agent_id}"), drivers=("command",), long_running=long_running)
        session = await self.parts.sessions.open(DEFAULT_TENANT, AgentId(agent_id), hello, link)
        await self.parts.sessions.begin(session, hello)
        return link

    async def work_on(self, name: str, agent_id: str) -> tuple[Task, Lease]:
        spec = Spec(driver="command")
        task = Task(TaskId(f"task_{name:0>32}"), DEFAULT_TENANT, spec, TaskState.BLOCKED, "", 1.0, "operator")
        await self.parts.tasks.insert(admit(task))
        lease = Lease(task.id, 1, 7)
        life = Incarnation(f"life of {agent_id}")
        await self.parts.tasks.change(DEFAULT_TENANT, task.id, Leased(lease, AgentId(agent_id), life, 2.0))
        return task, lease

    async def subscribe(self, topic: str, *agents: str) -> None:
        for agent in agents:
            await self.subscribing.subscribe(DEFAULT_TENANT, AgentId(agent), topic, agent)

    async def send(self, *numbers_to: tuple[int, str], sender: str = "operator", ephemeral: bool = False) -> list[object]:
        quality = Quality.EPHEMERAL if ephemeral else Quality.DURABLE
        offers = [offer(number, to, sender=sender, quality=quality) for number, to in numbers_to]
        return list(await self.parts.relay.accept(offers))

    async def states(self, number: int) -> dict[str, State]:
        found = await self.mailboxes.find("default", number.to_bytes(16, "big"))
        return {record.mailbox.partition("/")[2]: record.state for record, _ in found}


def offer(*numbers_and_to: int | str, sender: str = "operator", quality: Quality = Quality.DURABLE) -> Offer:
    *numbers, recipient = numbers_and_to
    ids = b"".join(int(number).to_bytes(16, "big") for number in numbers)
    frame = message_pb2.MessageFrame(
        header=message_pb2.FrameHeader(recipient=str(recipient), message_ids=ids),
        envelopes=[message_pb2.Envelope(data=str(number).encode()) for number in numbers],
    ).SerializeToString()
    header = Header(str(recipient), "note", quality, 0, 0, ids)
    return Offer(DEFAULT_TENANT, sender, header, Shape(len(numbers), 10), frame)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    clock = SystemClock()
    mailboxes, tasks = Mailboxes(MailboxLimits(messages=10)), MemoryTaskStore(clock)
    subscriptions = Subscriptions(SubscriptionLimits())
    rest = (MemoryIdentityStore(), MemoryAuditStore(), MemoryScheduleStore())
    stores = Stores(tasks, mailboxes, MemoryAgentStore(), MemoryEventLog(), subscriptions, *rest)
    output = OutputDirectory(tmp_path / "output", 1 << 20)
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        parts = build(Settings(tmp_path), stores, output, work, clock, PassingTracer())
        subscribing = Subscribing(subscriptions, parts.relay._directory)
        yield Plane(parts, mailboxes, subscriptions, subscribing, tasks)
        work.cancel()
    await output.close()


async def test_each_subscriber_gets_a_copy_and_the_sender_is_told_how_many(plane: Plane) -> None:
    one, two, other = await plane.connect("agent-1"), await plane.connect("agent-2"), await plane.connect("agent-3")
    await plane.subscribe("news", "agent-1", "agent-2")
    assert await plane.send((1, "topic/news"), (2, "topic/nothing")) == [Accepted(0, 2), Accepted(0, 0)]
    await eventually(lambda: one.numbers == two.numbers == [1])
    assert other.numbers == []
    assert await plane.states(1) == {"agent-1": State.ACCEPTED, "agent-2": State.ACCEPTED}
    assert await plane.send((1, "topic/news"), (2, "agent-1")) == [Duplicate(2), Duplicate(0)]


async def test_a_direct_message_costs_one_write_and_nothing_else(plane: Plane) -> None:
    await plane.connect("agent-1")
    await eventually(lambda: "read" in plane.mailboxes.asked)  # its feed has begun
    plane.mailboxes.asked.clear()
    await plane.send((1, "agent-1"), (2, "agent-1"))
    await plane.send((3, "agent-1"), ephemeral=True)
    assert plane.mailboxes.asked == ["append"]
    assert plane.subscriptions.asked == []


async def test_nobody_gets_what_it_published_itself(plane: Plane) -> None:
    one, two = await plane.connect("agent-1"), await plane.connect("agent-2")
    await plane.subscribe("news", "agent-1", "agent-2")
    await plane.send((1, "topic/news"), (2, "broadcast"), sender="agent/agent-1")
    await eventually(lambda: two.numbers == [1, 2])
    assert one.numbers == []


async def test_a_publication_is_not_overtaken_by_what_its_sender_says_afterwards(plane: Plane) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    plane.mailboxes.gate.clear()
    first = asyncio.create_task(plane.send((1, "agent-1"), (2, "topic/news"), (3, "agent-1"), sender="agent/x"))
    await plane.mailboxes.reached.wait()
    second = asyncio.create_task(plane.send((4, "agent-1"), (5, "topic/news"), sender="agent/x"))
    again = asyncio.create_task(plane.send((2, "topic/news"), (6, "agent-1"), sender="agent/x"))
    await plane.send((7, "agent-1"), sender="agent/y")  # others do not wait
    await eventually(lambda: link.numbers == [1, 7])
    plane.mailboxes.gate.set()
    assert await first == [Accepted(1), Accepted(0), Accepted(4)]
    await asyncio.gather(second, again)
    await eventually(lambda: len(link.numbers) == 7)
    assert link.numbers[:4] == [1, 7, 2, 3]
    assert link.numbers.index(4) < link.numbers.index(5)
    assert not plane.parts.relay._publishing.under_way


async def test_a_repeat_that_comes_too_late_is_told_how_many_got_the_first(plane: Plane) -> None:
    await plane.connect("agent-1")
    await plane.connect("agent-2")
    await plane.subscribe("news", "agent-1", "agent-2")
    assert await plane.send((1, "topic/news"), (2, "topic/empty")) == [Accepted(0, 2), Accepted(0, 0)]
    for number, topic, count in ((1, "topic/news", 2), (2, "topic/empty", 0)):
        given = offer(number, topic)
        late = given._replace(header=given.header._replace(expire_time_ms=1))
        assert await plane.parts.relay.accept([late]) == [Duplicate(count)]


async def test_copies_wait_for_a_store_that_is_away_and_the_message_is_accepted(plane: Plane) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    plane.mailboxes.away = 1
    assert await plane.send((1, "topic/news")) == [Accepted(0)]
    await eventually(lambda: link.numbers == [1])


async def test_a_publication_that_was_stored_although_the_store_failed_is_copied_before_its_repeat_is_answered(
    plane: Plane,
) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    plane.mailboxes.unsure = {"publish"}
    with pytest.raises(StoreUnavailableError):
        await plane.send((1, "topic/news"))
    assert await plane.send((1, "topic/news"), (2, "agent-1")) == [Duplicate(1), Accepted(2)]
    await eventually(lambda: link.numbers == [1, 2])


async def test_a_publication_that_was_stored_although_the_store_failed_is_copied_when_nobody_repeats_it(plane: Plane) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    plane.mailboxes.unsure = {"publish"}
    with pytest.raises(StoreUnavailableError):
        await plane.send((1, "topic/news"))
    await plane.parts.relay.expire()
    await eventually(lambda: link.numbers == [1])
    await plane.parts.relay.expire()
    assert link.numbers == [1]


async def test_copies_that_were_made_although_the_store_failed_are_delivered(plane: Plane) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    plane.mailboxes.unsure = {"copy"}
    assert await plane.send((1, "topic/news")) == [Accepted(0)]
    await eventually(lambda: link.numbers == [1])


async def test_copies_are_made_although_their_senders_session_broke(plane: Plane) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    plane.mailboxes.gate.clear()
    sending = asyncio.create_task(plane.send((1, "topic/news")))
    await plane.mailboxes.reached.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    plane.mailboxes.gate.set()
    await eventually(lambda: link.numbers == [1])


async def test_what_an_earlier_life_did_not_copy_is_copied_at_start(plane: Plane) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    frame = await plane.parts.relay._check(offer(1, "topic/news"), int(SystemClock().now() * 1000))
    recipients = ("default/agent-1", "default/task/task_" + "0" * 32)
    await plane.mailboxes.publish(frame._replace(recipients=recipients))
    await plane.parts.relay.finish()
    await eventually(lambda: link.numbers == [1])
    assert (await plane.states(1))["task/task_" + "0" * 32] is State.BOUNCED  # it ended long ago
    await plane.parts.relay.finish()
    assert link.numbers == [1]


async def test_a_partly_repeated_publication_sends_the_rest(plane: Plane) -> None:
    link = await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    await plane.parts.relay.accept([offer(1, "topic/news")])
    assert await plane.parts.relay.accept([offer(1, 2, 3, "topic/news")]) == [Accepted(0)]
    await eventually(lambda: link.numbers == [1, 2, 3])


async def test_a_full_mailbox_gets_a_dead_letter_and_the_others_theirs(plane: Plane) -> None:
    link = await plane.connect("agent-2")
    await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1", "agent-2")
    await plane.send(*((number, "agent-1") for number in range(10, 20)))
    assert await plane.send((1, "topic/news")) == [Accepted(0, 2)]
    await eventually(lambda: link.numbers == [1])
    assert await plane.states(1) == {"agent-1": State.DEAD, "agent-2": State.ACCEPTED}
    assert "message.dead" in [event.type for event in plane.parts.watch._pending]
    await plane.send((2, "agent-2"))
    await eventually(lambda: link.numbers == [1, 2])


async def test_large_copies_are_made_a_few_at_a_time(plane: Plane) -> None:
    agents = [f"agent-{number}" for number in range(10)]
    for agent in agents:
        await plane.connect(agent)
    await plane.subscribe("news", *agents)
    large = offer(1, "topic/news")
    frame = message_pb2.MessageFrame.FromString(large.frame)
    frame.envelopes[0].data = bytes(1 << 20)
    body = frame.SerializeToString()
    assert await plane.parts.relay.accept([Offer(DEFAULT_TENANT, "x", large.header, large.shape, body)]) == [Accepted(0, 10)]
    assert plane.mailboxes.sizes == [3, 3, 3, 1]


async def test_a_broadcast_reaches_each_process_once_and_the_operator_if_it_wants(plane: Plane) -> None:
    long, other = await plane.connect("agent-1"), await plane.connect("agent-2")
    worker = await plane.connect("agent-3", long_running=False)
    await plane.connect("agent-4", long_running=False)
    own, _ = await plane.work_on("a", "agent-1")
    task, _ = await plane.work_on("b", "agent-3")
    waiting = Task(TaskId("task_" + "c" * 32), DEFAULT_TENANT, Spec(driver="command"), TaskState.BLOCKED, "", 1.0, "operator")
    await plane.parts.tasks.insert(admit(waiting))
    assert await plane.send((1, "broadcast"), sender="agent/agent-2") == [Accepted(0, 2)]
    assert set(await plane.states(1)) == {"agent-1", f"task/{task.id}"}
    await plane.subscribing.subscribe(DEFAULT_TENANT, NOBODY, "broadcast", "")
    await plane.subscribe("broadcast", "agent-1")
    assert await plane.send((2, "broadcast"), sender=f"task/{task.id}") == [Accepted(0, 3)]
    assert set(await plane.states(2)) == {"agent-1", "agent-2", "operator"}
    await eventually(lambda: long.numbers == [1, 2])
    await eventually(lambda: other.numbers == [2])
    assert worker.numbers == []  # the assignment is what opens its mailbox, and this one was never handed over
    assert own.id


async def test_an_ephemeral_message_goes_to_whoever_is_there(plane: Plane) -> None:
    one, full = await plane.connect("agent-1"), await plane.connect("agent-2")
    full.room = 0
    away = await plane.connect("agent-3")
    plane.parts.relay._mail.close_link(away)
    await plane.subscribe("news", "agent-1", "agent-2", "agent-3")
    assert await plane.send((1, "topic/news"), (2, "broadcast"), ephemeral=True) == [Accepted(0, 1), Accepted(0, 1)]
    assert one.numbers == [1, 2]
    assert [frame.first_position for frame in one.delivered] == [0, 0]
    assert await plane.send((3, "topic/nothing"), ephemeral=True) == [Accepted(0, 0)]


async def test_the_subscriptions_of_a_task_end_with_it(plane: Plane) -> None:
    await plane.connect("agent-1", long_running=False)
    task, lease = await plane.work_on("a", "agent-1")
    mailbox = f"task/{task.id}"
    await plane.subscribing.subscribe(DEFAULT_TENANT, AgentId("agent-1"), "news", mailbox)
    assert await plane.send((1, "topic/news")) == [Accepted(0)]
    await plane.parts.tasks.change(DEFAULT_TENANT, task.id, Completed(lease, Result(), 3.0, 0.0))
    assert await plane.states(1) == {mailbox: State.BOUNCED}
    assert await plane.subscriptions.list("default", "", "", None, 10) == []
    with pytest.raises(AgentNotFoundError):
        await plane.subscribing.subscribe(DEFAULT_TENANT, AgentId("agent-1"), "news", mailbox)
    await plane.subscriptions.add("default", Subscription("news", mailbox))  # it came in while the task ended
    assert await plane.send((2, "topic/news")) == [Accepted(0, 0)]
    assert await plane.subscriptions.list("default", "", "", None, 10) == []


async def test_a_copy_made_while_its_task_ended_bounces_and_its_sender_is_told(plane: Plane) -> None:
    sender = await plane.connect("agent-2")
    await plane.connect("agent-1", long_running=False)
    task, lease = await plane.work_on("a", "agent-1")
    mailbox = f"task/{task.id}"
    await plane.subscribing.subscribe(DEFAULT_TENANT, AgentId("agent-1"), "news", mailbox)
    plane.mailboxes.gate.clear()
    sending = asyncio.create_task(plane.send((1, "topic/news"), sender="agent/agent-2"))
    await plane.mailboxes.reached.wait()
    await plane.parts.tasks.change(DEFAULT_TENANT, task.id, Completed(lease, Result(), 3.0, 0.0))
    plane.mailboxes.gate.set()
    assert await sending == [Accepted(0)]
    assert await plane.states(1) == {mailbox: State.BOUNCED}
    await eventually(lambda: [frame.sender for frame in sender.delivered] == ["conductor"])


@pytest.mark.parametrize(
    ("agent", "topic", "mailbox", "error"),
    [
        ("agent-1", "news", "agent-2", PermissionDeniedError),
        ("agent-1", "news", "", PermissionDeniedError),
        ("agent-1", "news", "topic/x", InvalidArgumentError),
        ("agent-1", "news", "broadcast", InvalidArgumentError),
        ("", "news", "agent-1", PermissionDeniedError),
        ("agent-3", "news", "agent-3", AgentNotFoundError),
        ("agent-1", "No", "agent-1", ConductorError),
        ("agent-1", "", "agent-1", ConductorError),
    ],
)
async def test_who_may_not_subscribe_is_told_why(
    plane: Plane, agent: str, topic: str, mailbox: str, error: type[ConductorError]
) -> None:
    await plane.connect("agent-1")
    await plane.connect("agent-2")
    await plane.connect("agent-3", long_running=False)
    with pytest.raises(error):
        await plane.subscribing.subscribe(DEFAULT_TENANT, AgentId(agent), topic, mailbox)
    assert await plane.subscriptions.list("default", "", "", None, 10) == []


async def test_the_operator_may_end_any_subscription_and_an_agent_sees_its_own(plane: Plane) -> None:
    await plane.connect("agent-1")
    await plane.subscribe("news", "agent-1")
    await plane.subscribe("more", "agent-1")
    with pytest.raises(PermissionDeniedError):
        await plane.subscribing.list(DEFAULT_TENANT, AgentId("agent-2"), "", "agent-1", None, 10)
    with pytest.raises(PermissionDeniedError):
        await plane.subscribing.unsubscribe(DEFAULT_TENANT, AgentId("agent-2"), "news", "agent-1")
    await plane.subscribing.unsubscribe(DEFAULT_TENANT, NOBODY, "news", "agent-1")
    left = await plane.subscribing.list(DEFAULT_TENANT, AgentId("agent-1"), "", "agent-1", None, 10)
    assert [each.topic for each in left] == ["more"]


def test_a_record_of_a_copy_has_a_key_of_its_own() -> None:
    def key(mailbox: str) -> bytes:
        return Record(bytes(16), "a", mailbox, "", State.DEAD, "", 0, 0, 0, 0, 1).key

    assert bytes(16) < key("default/a") < key("default/b") < bytes(15) + b"\1"

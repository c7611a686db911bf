"""What was stored is acted on, whoever leaves and whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from claude_conductor.clock import SystemClock, SystemMint
from claude_conductor.errors import StoreUnavailableError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId, TenantId
from claude_conductor.telemetry.traces import PassingTracer
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
from controlplane.domain.agent import Agent
from controlplane.domain.agent import State as AgentState
from controlplane.domain.caps import Caps
from controlplane.domain.message import Accepted, Duplicate, Header, IncomingFrame, Outcome, Quality, StoredFrame
from controlplane.domain.routing import Shape
from controlplane.domain.task import FailureKind, IsolationStatus, Lease, Result, Spec, State, Task
from controlplane.domain.task_machine import CancelRequested, Completed, Leased, Started, admit
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import SubscriptionLimits
from controlplane.service.intake import Intake, Submission
from controlplane.service.relay import Offer
from controlplane.service.sessions import Hello
from controlplane.service.work import Work
from controlplane.settings import Settings
from tests.fakes.waiting import eventually

AGENT = AgentId("agent-1")


class Gate:
    """Holds answers back while it is shut."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()

    async def passed(self) -> None:
        self.reached.set()
        await self.open.wait()


class Tasks(MemoryTaskStore):
    """Stores at once, answers when its gate is open, and may be away for those that look for dependents."""

    gate: Gate
    away = 0
    away_after_insert = False
    unreadable = False
    unsaved: TaskId | None = None

    async def insert(self, task: Task) -> Task:
        stored = await super().insert(task)
        await self.gate.passed()
        self.unreadable = self.away_after_insert
        return stored

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        if self.unreadable:
            self.unreadable = False
            raise StoreUnavailableError
        return await super().get(tenant_id, task_id)

    async def save(self, task: Task) -> bool:
        if task.id == self.unsaved:
            raise StoreUnavailableError
        saved = await super().save(task)
        await self.gate.passed()
        return saved

    async def waiting_for(self, task_id: TaskId) -> Sequence[Task]:
        if self.away:
            self.away -= 1
            raise StoreUnavailableError
        return await super().waiting_for(task_id)


class Mailboxes(MemoryMailboxStore):
    """Stores at once and answers when its gate is open; or not at all."""

    gate: Gate
    away = False

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        if self.away:
            raise StoreUnavailableError
        outcomes = await super().append(frames)
        await self.gate.passed()
        return outcomes


class Agents(MemoryAgentStore):
    """May be away."""

    away = False

    async def put(self, agent: Agent) -> None:
        if self.away:
            raise StoreUnavailableError
        await super().put(agent)


@dataclass(eq=False)
class Link:
    """Keeps what is said to a sidecar."""

    room: int = 1 << 20
    delivered: list[StoredFrame] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        del after_position
        self.delivered.append(frame)

    def assign(self, task: Task, traceparent: str) -> None:
        del traceparent
        self.said.append(f"assign {task.id}")

    def cancel(self, lease: Lease, grace: float, reason: str, kind: FailureKind) -> None:
        del grace, reason, kind
        self.said.append(f"cancel {lease.task_id}")

    def revoke(self, leases: Sequence[Lease]) -> None:
        self.said.extend(f"revoke {lease.task_id}" for lease in leases)

    def move(self, deadline: float) -> None:
        del deadline

    def end(self, reason: str) -> None:
        self.said.append(f"end: {reason}")


@dataclass
class Plane:
    """A control plane without its door."""

    parts: Parts
    tasks: Tasks
    mailboxes: Mailboxes
    agents: Agents
    gate: Gate
    work: Work

    def intake(self) -> Intake:
        tasks, clock = self.parts.tasks, SystemClock()
        return Intake(self.tasks, tasks, clock, SystemMint(clock), 1000, self.work, Caps())

    async def child(self, parent: Task) -> Task:
        spec = Spec(driver="command", command=("true",), parent_task_id=parent.id)
        return await self.intake().submit(Submission(DEFAULT_TENANT, "agent/agent-1", "", spec))

    async def submit(self, name: str, parent: Task | None = None, waits_for: frozenset[TaskId] = frozenset()) -> Task:
        spec = Spec(driver="command", parent_task_id=parent.id if parent is not None else "")
        task = Task(TaskId(f"task_{name:0>32}"), DEFAULT_TENANT, spec, State.BLOCKED, "", 1.0, "operator", waits_for=waits_for)
        return await self.parts.tasks.insert(admit(task))

    async def lease(self, task: Task, incarnation: str = "life-1") -> Lease:
        lease = Lease(task.id, 1, 7)
        await self.parts.tasks.change(DEFAULT_TENANT, task.id, Leased(lease, AGENT, Incarnation(incarnation), 2.0))
        return lease

    async def state(self, task: Task) -> State:
        return (await self.tasks.get(DEFAULT_TENANT, task.id)).state

    def offer(self, number: int, recipient: str = "agent-1", quality: Quality = Quality.DURABLE) -> Offer:
        header = Header(recipient, "note", quality, 0, 0, number.to_bytes(16, "big"))
        return Offer(DEFAULT_TENANT, "operator", header, Shape(1, 10), b"x" * 10)

    async def connect(self, link: Link, incarnation: str = "life-1", **more: object) -> None:
        hello = Hello(1000, Incarnation(incarnation), drivers=("command",), long_running=True, **more)  # type: ignore[arg-type]
        session = await self.parts.sessions.open(DEFAULT_TENANT, AGENT, hello, link)
        await self.parts.sessions.begin(session, hello)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    clock = SystemClock()
    tasks, mailboxes, agents = Tasks(clock), Mailboxes(MailboxLimits()), Agents()
    gate = tasks.gate = mailboxes.gate = Gate()
    stores = Stores(
        *(tasks, mailboxes, agents, MemoryEventLog(), MemorySubscriptionStore(SubscriptionLimits())),
        *(MemoryIdentityStore(), MemoryAuditStore(), MemoryScheduleStore()),
    )
    output = OutputDirectory(tmp_path / "output", 1 << 20)
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        parts = build(Settings(tmp_path), stores, output, work, clock, PassingTracer())
        yield Plane(parts, tasks, mailboxes, agents, gate, work)
        work.cancel()
    await output.close()


async def leave(plane: Plane, call: asyncio.Task[object]) -> None:
    """Cancel a call that has stored what it is about and has not heard so yet."""
    async with asyncio.timeout(5):
        await plane.gate.reached.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    plane.gate.open.set()


def shut(plane: Plane) -> None:
    plane.gate.open.clear()
    plane.gate.reached.clear()


async def test_a_result_counts_wholly_although_its_session_broke_while_it_was_saved(plane: Plane) -> None:
    link = Link()
    await plane.connect(link)
    first = await plane.submit("a")
    second = await plane.submit("b", waits_for=frozenset({first.id}))
    lease = await plane.lease(first)
    shut(plane)
    ended = Completed(lease, Result(), 3.0, 0.0)
    await leave(plane, asyncio.create_task(plane.parts.tasks.change(DEFAULT_TENANT, first.id, ended)))
    await eventually(lambda: plane.parts.tasks.counts().get("queued"))
    assert await plane.state(second) is State.QUEUED
    assert plane.parts.registry.get(DEFAULT_TENANT, AGENT).task_id == ""


async def test_a_message_is_delivered_although_its_senders_session_broke_while_it_was_stored(plane: Plane) -> None:
    link = Link()
    await plane.connect(link)
    shut(plane)
    await leave(plane, asyncio.create_task(plane.parts.relay.accept([plane.offer(1)])))
    await eventually(lambda: link.delivered)


async def test_a_repeat_delivers_what_was_stored_without_a_word(plane: Plane) -> None:
    link = Link()
    await plane.connect(link)
    await plane.parts.relay.accept([plane.offer(1)])
    await eventually(lambda: len(link.delivered) == 1)
    frame = IncomingFrame("default/agent-1", "operator", "note", (2).to_bytes(16, "big"), 0, b"x" * 10, 1)
    await plane.mailboxes.append([frame])
    assert await plane.parts.relay.accept([plane.offer(2)]) == [Duplicate()]
    await eventually(lambda: len(link.delivered) == 2)


async def test_an_ephemeral_message_is_handed_over_once_although_the_store_failed_beside_it(plane: Plane) -> None:
    link = Link()
    await plane.connect(link)
    offers = [plane.offer(1, quality=Quality.EPHEMERAL), plane.offer(2)]
    plane.mailboxes.away = True
    with pytest.raises(StoreUnavailableError):
        await plane.parts.relay.accept(offers)
    plane.mailboxes.away = False
    assert await plane.parts.relay.accept(offers) == [Accepted(0), Accepted(1)]
    await eventually(lambda: len(link.delivered) == 2)
    assert sorted(frame.first_position for frame in link.delivered) == [0, 1]


async def test_dependents_are_told_although_the_store_was_away_for_a_moment(plane: Plane) -> None:
    first = await plane.submit("a")
    second = await plane.submit("b", waits_for=frozenset({first.id}))
    lease = await plane.lease(first)
    plane.tasks.away = 1
    await plane.parts.tasks.change(DEFAULT_TENANT, first.id, Completed(lease, Result(), 3.0, 0.0))
    assert await plane.state(second) is State.QUEUED


async def test_a_new_task_hears_of_dependencies_that_ended_before_although_the_store_was_away_for_a_moment(plane: Plane) -> None:
    first = await plane.submit("a")
    await plane.parts.tasks.change(DEFAULT_TENANT, first.id, CancelRequested("enough", 1.0, 3.0))
    plane.tasks.away_after_insert = True
    spec = Spec(driver="command", command=("true",), depends_on=(first.id,))
    second = await plane.intake().submit(Submission(DEFAULT_TENANT, "operator", "", spec))
    assert second.state is await plane.state(second) is State.FAILED


async def test_of_tasks_handed_out_together_those_that_were_stored_are_sent(plane: Plane) -> None:
    """And the store's failure is said as one, so that whoever hands out waits for the store and does not end."""
    links = {}
    for name in ("agent-2", "agent-3"):
        links[name] = Link()
        hello = Hello(1000, Incarnation(f"life of {name}"), drivers=("command",))
        session = await plane.parts.sessions.open(DEFAULT_TENANT, AgentId(name), hello, links[name])
        await plane.parts.sessions.begin(session, hello)
    first, second = await plane.submit("a"), await plane.submit("b")
    plane.tasks.unsaved = first.id
    with pytest.raises(StoreUnavailableError):
        await plane.parts.dispatch.round()
    assert await plane.state(second) is State.LEASED
    assert [line for link in links.values() for line in link.said] == [f"assign {second.id}"]


async def test_a_new_life_keeps_the_lease_whose_result_is_in_its_journal_and_loses_the_others(plane: Plane) -> None:
    first, second = await plane.submit("a"), await plane.submit("b")
    finished = await plane.lease(first)
    await plane.lease(second)
    await plane.connect(Link(), "life-2", active_leases=(finished,))
    assert await plane.state(second) is State.QUEUED
    await plane.parts.tasks.change(DEFAULT_TENANT, first.id, Completed(finished, Result(), 3.0, 0.0))
    assert await plane.state(first) is State.SUCCEEDED


async def test_a_task_that_never_arrived_is_handed_over_again_by_the_next_session(plane: Plane) -> None:
    task = await plane.submit("a")
    lease = await plane.lease(task)
    link = Link()
    await plane.connect(link)
    assert link.said == [f"assign {task.id}"]
    again = Link()
    await plane.connect(again, active_leases=(lease,))
    assert again.said == []


async def test_a_session_that_cannot_begin_leaves_no_agent_that_seems_connected(plane: Plane) -> None:
    plane.agents.away = True
    with pytest.raises(StoreUnavailableError):
        await plane.connect(Link())
    assert plane.parts.registry.all_connected() == []
    assert plane.parts.registry.get(DEFAULT_TENANT, AGENT).state is AgentState.LOST


async def test_a_subtask_of_a_task_that_is_being_cancelled_is_cancelled_too(plane: Plane) -> None:
    parent = await plane.submit("a")
    lease = await plane.lease(parent)
    await plane.parts.tasks.change(DEFAULT_TENANT, parent.id, Started(lease, IsolationStatus(), 2.5))
    assert (await plane.child(parent)).state is State.QUEUED
    await plane.parts.tasks.change(DEFAULT_TENANT, parent.id, CancelRequested("enough", 1.0, 3.0))
    assert (await plane.child(parent)).state is State.CANCELLED


async def test_every_child_is_cancelled_however_many_there_are(plane: Plane) -> None:
    parent = await plane.submit("a")
    children = [await plane.submit(f"c{number}", parent=parent) for number in range(1100)]
    await plane.parts.tasks.change(DEFAULT_TENANT, parent.id, CancelRequested("enough", 1.0, 3.0))
    assert {await plane.state(child) for child in children} == {State.CANCELLED}

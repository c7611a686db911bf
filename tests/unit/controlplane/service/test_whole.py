"""What was stored is acted on, whoever leaves and whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from claude_conductor.clock import SystemClock
from claude_conductor.errors import StoreUnavailableError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from claude_conductor.telemetry.traces import PassingTracer
from controlplane.app import Parts, build
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.agent import Agent
from controlplane.domain.message import Accepted, Duplicate, Header, IncomingFrame, Outcome, Quality, StoredFrame
from controlplane.domain.routing import Shape
from controlplane.domain.task import FailureKind, Lease, Result, Spec, State, Task
from controlplane.domain.task_machine import Completed, Leased, admit
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
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

    async def insert(self, task: Task) -> Task:
        stored = await super().insert(task)
        await self.gate.passed()
        return stored

    async def save(self, task: Task) -> bool:
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

    async def submit(self, name: str, **more: object) -> Task:
        task = Task(
            TaskId(f"task_{name:0>32}"), DEFAULT_TENANT, Spec(driver="command"), State.BLOCKED, "", 1.0, "operator", **more
        )  # type: ignore[arg-type]
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
    stores = Stores(tasks, mailboxes, agents, MemoryEventLog())
    output = OutputDirectory(tmp_path / "output", 1 << 20)
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        parts = build(Settings(tmp_path), stores, output, work, clock, PassingTracer())
        yield Plane(parts, tasks, mailboxes, agents, gate)
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

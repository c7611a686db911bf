"""What stands between a store and a test of tasks? The real services, with a clock moved by hand and no loops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation
from claude_conductor.telemetry.traces import PassingTracer
from controlplane.domain.caps import Caps
from controlplane.domain.task import FailureKind, IsolationLevel, Lease, Task
from controlplane.interfaces.agent_store import AgentStore
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.directory import Directory
from controlplane.service.dispatch import Dispatch
from controlplane.service.expiry import Expiry
from controlplane.service.in_hand import InHand
from controlplane.service.intake import Intake
from controlplane.service.leases import Leases
from controlplane.service.pulse import Pulse
from controlplane.service.recovery import recover
from controlplane.service.registry import Registry
from controlplane.service.results import Results
from controlplane.service.sessions import Hello, Session, Sessions
from controlplane.service.tasks import Books, Tasks
from controlplane.service.timetable import Timetable
from controlplane.service.work import Work
from tests.contract.samples import HandClock

LEASE = 10.0


class Counting:
    """Ids and epochs that are never the same, over every life of the services."""

    def __init__(self) -> None:
        self._last = 0

    def mint(self, prefix: str, /) -> str:
        return f"{prefix}{self.bits(64):032x}"

    def bits(self, count: int) -> int:
        del count
        self._last += 1
        return self._last


class Nothing:
    """Mail, relay and watch, which are not what is tested."""

    def publish(self, *_: Any) -> None: ...

    def open(self, *_: Any) -> None: ...

    def close_link(self, *_: Any) -> None: ...


class NoMail(Nothing):
    def close(self, *_: Any) -> None: ...


class NoRelay(Nothing):
    async def close(self, *_: Any) -> None: ...

    async def finish(self) -> None: ...

    async def expire(self) -> None: ...


class Link:
    """What an agent's sidecar is told."""

    room = 0

    def __init__(self) -> None:
        self.assigned: list[Task] = []
        self.revoked: list[Lease] = []
        self.cancelled: list[Lease] = []
        self.closed: list[str] = []

    def deliver(self, *_: Any) -> None: ...

    def assign(self, task: Task, traceparent: str) -> None:
        del traceparent
        self.assigned.append(task)

    def cancel(self, lease: Lease, grace: float, reason: str, kind: FailureKind) -> None:
        del grace, reason, kind
        self.cancelled.append(lease)

    def revoke(self, leases: Sequence[Lease]) -> None:
        self.revoked.extend(leases)

    def close_question(self, lease: Lease, question: Any) -> None:
        del lease
        self.closed.append(question.id)

    def move(self, deadline: float) -> None: ...

    def end(self, reason: str) -> None: ...


class Services:
    """One life of a control plane."""

    def __init__(self, tasks: TaskStore, agents: AgentStore, clock: HandClock, counting: Counting) -> None:
        nothing: Any = Nothing()
        mail: Any = NoMail()
        relay: Any = NoRelay()
        unused: Any = None
        caps, tracer, work = Caps(), PassingTracer(), Work(unused)
        self._store, self._relay, self._clock, self._caps = tasks, relay, clock, caps
        timetable, ready = Timetable(clock), asyncio.Event()
        self.registry, self.leases, self.in_hand = Registry(agents, nothing, clock), Leases(clock, LEASE), InHand(caps)
        books = Books(self.leases, self.registry, mail, timetable, Pulse(), ready.set, self.in_hand)
        self.tasks = Tasks(tasks, books, relay, nothing, clock, tracer, work)
        directory = Directory(self.registry, self.leases, tasks)
        self.results = Results(tasks, self.tasks, self.leases, self.registry, unused, nothing, clock, lambda: 1.0)
        self.sessions = Sessions(
            *(tasks, self.tasks, self.registry, self.leases, mail, relay, self.results),
            *(unused, directory, clock, tracer, ready.set),
        )
        self.dispatch = Dispatch(tasks, self.tasks, self.registry, self.in_hand, mail, ready, clock, counting.bits, tracer)
        self.expiry = Expiry(tasks, self.tasks, self.sessions, self.leases, relay, timetable, clock)
        self.intake = Intake(tasks, self.tasks, clock, counting.mint, 1000, work, caps)

    async def recover(self) -> None:
        await recover(self._store, self.tasks, self.registry, self._relay, self._clock, self._caps)

    async def connect(self, name: str, incarnation: str, has: Lease | None) -> tuple[Session, Link]:
        link = Link()
        hello = Hello(
            1000,
            Incarnation(incarnation),
            drivers=("scripted",),
            strongest_level=IsolationLevel.STRICT,
            active_leases=(has,) if has is not None else (),
        )
        session = await self.sessions.open(DEFAULT_TENANT, AgentId(name), hello, link)
        await self.sessions.begin(session, hello)
        return session, link

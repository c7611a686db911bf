"""What is the control plane here? The real services of tasks, put together as `controlplane.app` does, over a lasting store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError, StoreUnavailableError
from claude_conductor.ids import AgentId, Mint, TenantId
from claude_conductor.telemetry.traces import PassingTracer
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.domain.caps import Caps
from controlplane.domain.task import FailureKind, Lease, Task
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
from controlplane.service.sessions import Beat, Hello, Refusal, Sessions
from controlplane.service.tasks import Books, Tasks
from controlplane.service.timetable import Timetable
from controlplane.service.waiting import Waiting
from controlplane.service.work import Work
from tests.simulation.processes import Fate, Process, Shaky
from tests.simulation.tasks.wire import CUT, Wire

LEASE = 3.0


@dataclass(frozen=True)
class Committed:
    """Everything up to `sequence` was taken or refused."""

    sequence: int
    refused: frozenset[int] = frozenset()
    certain: bool = True
    """Whether it says what became of each; a welcome does not."""


class Silent:
    """Mail, relay and watch: this simulation is about tasks, the other one about messages."""

    def publish(self, *_: Any) -> None: ...

    def open(self, *_: Any) -> None: ...

    def close_link(self, *_: Any) -> None: ...


class SilentMail(Silent):
    def close(self, *_: Any) -> None: ...


class SilentRelay(Silent):
    async def close(self, *_: Any) -> None: ...

    async def finish(self) -> None: ...

    async def expire(self) -> None: ...


class WireLink:
    """The services' way to a sidecar."""

    room = 1 << 20

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def deliver(self, *_: Any) -> None:
        raise AssertionError("there are no messages here")

    def assign(self, task: Task, traceparent: str) -> None:
        del traceparent
        self._wire.down(("assign", task))

    def cancel(self, lease: Lease, grace: float, reason: str, kind: FailureKind) -> None:
        del grace, reason, kind
        self._wire.down(("cancel", lease))

    def revoke(self, leases: Sequence[Lease]) -> None:
        self._wire.down(("revoke", tuple(leases)))

    def move(self, deadline: float) -> None:
        raise AssertionError("nobody moves here")

    def end(self, reason: str) -> None:
        del reason
        self._wire.cut()


@dataclass(frozen=True)
class Kinds:
    """Which classes are used: a test of the checker plants others."""

    in_hand: type[InHand] = InHand
    leases: type[Leases] = Leases
    results: type[Results] = Results
    tasks: type[Tasks] = Tasks
    dispatch: type[Dispatch] = Dispatch


class Plane:
    """One life of the control plane."""

    def __init__(
        self,
        number: int,
        store: Any,
        agents: MemoryAgentStore,
        fate: Fate,
        clock: Clock,
        mint: Mint,
        caps: Caps,
        failing: float,
        cutting: float,
        kinds: Kinds,
        *,
        honest: bool,
    ) -> None:
        self.process = Process(f"control plane {number}")
        self.failure: BaseException | None = None
        self.serving = False
        self._fate = fate
        self._cutting = cutting
        self._wires: list[Wire] = []
        clock_, tracer = clock, PassingTracer()
        silent: Any = Silent()
        mail: Any = SilentMail()
        relay: Any = SilentRelay()
        tasks_store: Any = Shaky(store, self.process, fate, failing, honest=honest)
        self._store, self._relay, self._clock, self._caps = tasks_store, relay, clock_, caps
        timetable, ready = Timetable(clock_), asyncio.Event()
        self.registry, self.leases, self.in_hand = (
            Registry(agents, silent, clock_),
            kinds.leases(clock_, LEASE),
            kinds.in_hand(caps),
        )
        self._books = Books(self.leases, self.registry, mail, timetable, Pulse(), ready.set, self.in_hand)
        self._kinds, self._tracer, self._mail, self._watch, self._ready, self._mint = kinds, tracer, mail, silent, ready, mint
        self.waiting = Waiting(store, self.registry, self.in_hand, clock_)
        self.intake: Intake | None = None
        self._sessions: Sessions | None = None

    def start(self) -> None:
        self.process.start(self._run(), "main")

    def kill(self) -> None:
        self.serving = False
        self.process.kill()
        for wire in self._wires:
            wire.cut()

    def wire(self) -> Wire:
        wire = Wire(self._fate, self._cutting)
        self._wires.append(wire)
        return wire

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                await self._serve(Work(group))
        except Exception as failure:  # noqa: BLE001 - a crash of the control plane, which the checker reports
            self.failure = failure

    async def _serve(self, work: Work) -> None:
        fate, clock = self._fate, self._clock
        store, relay, kinds = self._store, self._relay, self._kinds
        tasks = kinds.tasks(store, self._books, relay, self._watch, clock, self._tracer, work)
        directory = Directory(self.registry, self.leases, store)
        output: Any = None
        passing: Any = None  # nobody writes here
        results = kinds.results(store, tasks, self.leases, self.registry, output, self._watch, clock, fate.random.random)
        self._sessions = Sessions(
            store=store,
            tasks=tasks,
            registry=self.registry,
            leases=self.leases,
            mail=self._mail,
            relay=relay,
            results=results,
            passing=passing,
            directory=directory,
            clock=clock,
            tracer=self._tracer,
            ready=self._ready.set,
        )
        bits = fate.random.getrandbits
        dispatch = kinds.dispatch(store, tasks, self.registry, self.in_hand, self._mail, self._ready, clock, bits, self._tracer)
        expiry = Expiry(store, tasks, self._sessions, self.leases, relay, self._books.timetable, clock)
        while True:
            try:
                await recover(store, tasks, self.registry, relay, clock, self._caps)
                break
            except StoreUnavailableError:  # the program would end with this and be started again
                await asyncio.sleep(0.1)
        work.start(dispatch.run(), name="dispatch")
        work.start(expiry.run(), name="expiry")
        self.intake = Intake(store, tasks, clock, self._mint, 1000, work, self._caps)
        self.serving = True
        await asyncio.Event().wait()

    # --- sessions, as api/session does it

    def accept(self, tenant_id: TenantId, agent_id: AgentId, hello: Hello, wire: Wire) -> None:
        self.process.start(self._session(tenant_id, agent_id, hello, wire), f"session of {agent_id}")

    async def _session(self, tenant_id: TenantId, agent_id: AgentId, hello: Hello, wire: Wire) -> None:
        sessions = self._sessions
        assert sessions is not None
        try:
            session = await sessions.open(tenant_id, agent_id, hello, WireLink(wire))
        except ConductorError:
            wire.cut()
            return
        try:
            wire.down(Committed(session.committed, certain=False))
            await sessions.begin(session, hello)
            while (item := await wire.next_up()) is not CUT:
                if isinstance(item, Beat):
                    sessions.heartbeat(session, item)
                    continue
                answers = await sessions.commit(session, item)
                refused = frozenset(answer.sequence for answer in answers if isinstance(answer, Refusal))
                wire.down(Committed(session.committed, refused))
        except ConductorError:
            wire.cut()
        finally:
            await sessions.close(session, "the stream ended")
            wire.cut()

"""What is the control plane here? Its real services, put together as `controlplane.app` does, over stores that outlive it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from claude_conductor.clock import Clock
from claude_conductor.ids import Mint
from claude_conductor.telemetry.traces import PassingTracer
from controlplane.api.convert.frames import Frames
from controlplane.api.session.servicer import SessionServicer, Terms
from controlplane.api.session.writer import StreamBounds, Writer
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.subscription_store import MemorySubscriptionStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.caps import Caps
from controlplane.domain.policy import Policy
from controlplane.domain.rate import Rate
from controlplane.domain.routing import Bounds
from controlplane.interfaces.subscription_store import SubscriptionLimits
from controlplane.service.directory import Directory
from controlplane.service.expiry import Expiry
from controlplane.service.in_hand import InHand
from controlplane.service.leases import Leases
from controlplane.service.letters import Letters
from controlplane.service.mail import Mail
from controlplane.service.news import MessageNews
from controlplane.service.passing import Passing
from controlplane.service.permissions import Permissions
from controlplane.service.publishing import Publishing
from controlplane.service.pulse import Pulse
from controlplane.service.rates import Rates
from controlplane.service.recovery import recover
from controlplane.service.registry import Registry
from controlplane.service.relay import Relay
from controlplane.service.results import Results
from controlplane.service.sessions import Sessions
from controlplane.service.tasks import Books, Tasks
from controlplane.service.timetable import Timetable
from controlplane.service.watch import Watch
from controlplane.service.work import Work
from tests.simulation.processes import Fate, Process, Shaky
from tests.simulation.wire import Network

HEARTBEAT = 5.0
PAYLOAD = 64 << 10


@dataclass
class Disk:
    """What outlives the process."""

    mailboxes: Any
    subscriptions: MemorySubscriptionStore
    tasks: Any
    agents: Any
    events: Any

    @classmethod
    def empty(cls, clock: Clock, mailboxes: Any) -> Disk:
        return cls(
            mailboxes, MemorySubscriptionStore(SubscriptionLimits()), MemoryTaskStore(clock), MemoryAgentStore(), MemoryEventLog()
        )


class Plane:
    """One life of the control plane."""

    def __init__(
        self,
        number: int,
        disk: Disk,
        network: Network,
        fate: Fate,
        clock: Clock,
        mint: Mint,
        failing: float,
        bounds: StreamBounds,
        attempts: int,
    ) -> None:
        self.process = Process(f"control plane {number}")
        self._disk = disk
        self._network = network
        self._fate = fate
        self._clock = clock
        self._mint = mint
        self._failing = failing
        self._bounds = bounds
        self._attempts = attempts
        self.failure: BaseException | None = None
        self.registry: Registry | None = None
        self.mail: Mail | None = None
        self.letters: Letters | None = None

    def start(self) -> None:
        self.process.start(self._run(), "main")

    def kill(self) -> None:
        self.process.kill()
        self._network.fall_silent()

    def link_of(self, agent_id: str) -> Writer | None:
        """Return the writer of the agent's present session."""
        assert self.registry is not None
        for connected in self.registry.all_connected():
            if connected.key[1] == agent_id and isinstance(connected.link, Writer):
                return connected.link
        return None

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                await self._serve(Work(group))
        except Exception as failure:  # noqa: BLE001 - a crash of the control plane, which the checker reports
            self.failure = failure

    async def _serve(self, work: Work) -> None:
        clock, tracer = self._clock, PassingTracer()
        mailboxes = Shaky(self._disk.mailboxes, self.process, self._fate, self._failing)
        task_store, agents, events = (
            Shaky(each, self.process, self._fate, failing)
            for each, failing in ((self._disk.tasks, 0.0), (self._disk.agents, self._failing), (self._disk.events, 0.0))
        )
        watch, timetable, changed, ready = Watch(events), Timetable(clock), Pulse(), asyncio.Event()
        registry, leases = Registry(agents, watch, clock), Leases(clock, 3 * HEARTBEAT)
        directory = Directory(registry, leases, task_store)
        news = MessageNews(watch, clock)
        mail = Mail(mailboxes, clock, work, news)
        permissions = Permissions(Policy(), registry, leases, task_store, watch, clock)
        publishing = Publishing(mailboxes, self._disk.subscriptions, directory, mail, news, timetable, clock, permissions)
        bounds = Bounds(PAYLOAD, 16, 86_400_000)
        rates = Rates(Rate(1000.0, 20_000.0), clock)
        passing = Passing(mail, directory, permissions, rates, clock, bounds)
        relay = Relay(
            *(mailboxes, mail, directory, Frames(), news, timetable, clock, bounds, work, publishing),
            *(passing, rates, permissions),
        )
        books = Books(leases, registry, mail, timetable, changed, ready.set, InHand(Caps()))
        tasks = Tasks(task_store, books, relay, watch, clock, tracer, work)
        results = Results(task_store, tasks, leases, registry, None, watch, clock, self._fate.random.random)  # type: ignore[arg-type]
        given = (mail, relay, results, passing, directory)
        sessions = Sessions(task_store, tasks, registry, leases, *given, clock, tracer, ready.set)
        servicer = SessionServicer(
            sessions,
            mail,
            Terms(3 * HEARTBEAT, HEARTBEAT, PAYLOAD, self._attempts, self._bounds),
            self._mint,
            tracing=False,
        )
        expiry = Expiry(task_store, tasks, sessions, leases, relay, timetable, clock)
        self.registry, self.mail = registry, mail
        self.letters = Letters(mailboxes, directory, Frames(), mail, news, timetable, clock, work)
        while True:
            try:
                await recover(task_store, tasks, registry, relay, clock, Caps())
                break
            except Exception:  # noqa: BLE001 - the program would end with this and be started again
                await asyncio.sleep(0.1)
        work.start(watch.run(), name="events")
        work.start(expiry.run(), name="expiry")
        self._network.listen(self.process, servicer)
        await asyncio.Event().wait()

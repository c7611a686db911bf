"""What does a session with a sidecar mean for its agent, its leases and its mailboxes?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError, ProtocolVersionError, StoreUnavailableError
from claude_conductor.ids import AgentId, Incarnation, TenantId
from claude_conductor.telemetry.traces import Tracer
from controlplane.domain.agent import Agent, ResourceUse, State
from controlplane.domain.message import Header, Receipt
from controlplane.domain.routing import Shape, mailbox, task_mailbox_name
from controlplane.domain.task import FailureKind, IsolationLevel, IsolationStatus, Lease, ResourceLimits
from controlplane.domain.task_machine import AgentLost
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.directory import Directory
from controlplane.service.leases import Held, Leases
from controlplane.service.link import Link
from controlplane.service.mail import Mail
from controlplane.service.passing import Passing
from controlplane.service.registry import Connected, Registry
from controlplane.service.relay import Offer, Relay
from controlplane.service.results import Report, Results
from controlplane.service.tasks import Tasks

_log = logging.getLogger(__name__)
PROTOCOL_VERSION = 1000
_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Hello:
    """What a sidecar says first."""

    protocol_version: int
    incarnation: Incarnation
    drivers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    strongest_level: IsolationLevel | None = None
    default_level: IsolationLevel = IsolationLevel.STRICT
    default_limits: ResourceLimits = ResourceLimits()
    active_leases: tuple[Lease, ...] = ()
    mailbox_positions: Mapping[str, int] = field(default_factory=dict)
    version: str = ""
    pid: int = 0
    host: str = ""
    long_running: bool = False
    isolation: IsolationStatus = IsolationStatus()
    capacity: ResourceLimits = ResourceLimits()
    credential: str = ""
    credential_drivers: tuple[str, ...] = ()
    credential_closed: float = 0.0
    """Seconds for which the provider takes no requests of it, as far as the sidecar knows."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life."""

    leases: tuple[Lease, ...]
    state: State
    reason: str = ""
    use: ResourceUse = ResourceUse()
    leaving: bool = False
    """It was told to stop, and will not come back by itself."""


class Message(NamedTuple):
    """Messages from the agent. `frame` is the serialised MessageFrame."""

    header: Header
    shape: Shape
    frame: bytes
    traceparent: str = ""
    """Trace context of its first envelope if that is sampled, else empty."""


@dataclass(frozen=True, slots=True)
class Receipts:
    """What became of delivered messages, by mailbox."""

    by_mailbox: Mapping[str, tuple[Receipt, ...]]


Content = Message | Receipts | Report | ConductorError
"""What a numbered frame holds; an error if it could not be understood."""


class Numbered(NamedTuple):
    """A frame of the sidecar's journal."""

    sequence: int
    content: Content
    messages: int = 0
    """Messages the sidecar spent credit on, whether they are understood or not."""
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that changed nothing."""

    sequence: int
    error: ConductorError


@dataclass(frozen=True, slots=True)
class Published:
    """A frame that goes to any other number of mailboxes than one."""

    sequence: int
    recipients: int


Answer = Refusal | Published
"""What a sidecar is told of a frame besides that it was taken."""


@dataclass(slots=True, eq=False)
class Session:
    """A live session."""

    tenant_id: TenantId
    agent_id: AgentId
    connected: Connected
    committed: int
    """Every frame of the journal up to here was taken or refused."""
    left: bool = False
    """Its sidecar said farewell."""


class Sessions:
    """Opens and closes sessions, and takes what sidecars send, in order."""

    def __init__(
        self,
        store: TaskStore,
        tasks: Tasks,
        registry: Registry,
        leases: Leases,
        mail: Mail,
        relay: Relay,
        results: Results,
        passing: Passing,
        directory: Directory,
        clock: Clock,
        tracer: Tracer,
        ready: Callable[[], None],
    ) -> None:
        self._store = store
        self._tracer = tracer
        self._ready = ready
        self._tasks = tasks
        self._registry = registry
        self._leases = leases
        self._mail = mail
        self._relay = relay
        self._results = results
        self._passing = passing
        self._directory = directory
        self._clock = clock
        self._committed: dict[tuple[TenantId, AgentId], tuple[Incarnation, int]] = {}

    async def open(self, tenant_id: TenantId, agent_id: AgentId, hello: Hello, link: Link) -> Session:
        """Begin a session; an older one of the same agent ends.

        A new incarnation proves that the old process is gone: what it held is lost at once, but for leases it still names:
        their work is done, and the result is in its journal. The same incarnation goes on where it was.

        Raises:
            ProtocolVersionError: It speaks another major version.
            StoreUnavailableError: The agent could not be stored.
        """
        if hello.protocol_version // 1000 != PROTOCOL_VERSION // 1000:
            raise ProtocolVersionError(sidecar=hello.protocol_version, control_plane=PROTOCOL_VERSION)
        for held in self._leases.of_agent(tenant_id, agent_id):
            if held.incarnation != hello.incarnation and held.lease not in hello.active_leases:
                await self.lose(held, "its sidecar was started anew")
            held.incarnation = hello.incarnation
        stale = [lease for lease in hello.active_leases if not self._leases.renew(lease, tenant_id, agent_id)]
        held_now = self._leases.of_agent(tenant_id, agent_id)
        agent = self._agent(tenant_id, agent_id, hello, held_now)
        if hello.long_running:  # before anybody can write to it
            await self._mail.follow(mailbox(tenant_id, agent_id), hello.mailbox_positions.get(agent_id, 0))
        connected = await self._registry.connect(agent, link, occupied=bool(stale))
        incarnation, committed = self._committed.get((tenant_id, agent_id), (hello.incarnation, 0))
        return Session(tenant_id, agent_id, connected, committed if incarnation == hello.incarnation else 0)

    async def begin(self, session: Session, hello: Hello) -> None:
        """Send what a new session needs first: revoked leases, tasks that did not arrive, cancellations, and its mail.

        Called once the welcome is queued.
        """
        link = session.connected.link
        self._renew(session, hello.active_leases)
        if hello.long_running:
            self._open_mailbox(session, session.agent_id, hello)
        for held in self._leases.of_agent(session.tenant_id, session.agent_id):
            self._open_mailbox(session, task_mailbox_name(held.lease.task_id), hello)
            task = await self._store.get(session.tenant_id, held.lease.task_id)
            if task.lease == held.lease and held.lease not in hello.active_leases:
                link.assign(task, task.traceparent)  # the stream that should have brought it broke, or we did
            if task.cancel_reason is not None and task.lease == held.lease:
                link.cancel(held.lease, _GRACE, task.cancel_reason, FailureKind.CANCELLED)
            question = task.question if task.lease == held.lease else None
            if question is not None and question.attempt == held.lease.attempt and not question.open:
                link.close_question(held.lease, question)  # it was answered while the sidecar was away, perhaps
        windows, agent = self._registry.windows, self._registry.get(session.tenant_id, session.agent_id)
        if not windows.close(hello.credential, hello.credential_closed, self._registry):
            windows.tell(agent, link)
        session.connected.ready = True
        self._ready()

    def _open_mailbox(self, session: Session, name: str, hello: Hello) -> None:
        if not self._registry.holds(session.connected):
            return  # a newer session was faster, and the mail is its own
        position = hello.mailbox_positions.get(name, 0)
        self._mail.open(mailbox(session.tenant_id, name), session.connected.link, position)

    def _agent(self, tenant_id: TenantId, agent_id: AgentId, hello: Hello, held: Sequence[Held]) -> Agent:
        return Agent(
            id=agent_id,
            tenant_id=tenant_id,
            incarnation=hello.incarnation,
            state=State.IDLE,
            state_time=self._clock.now(),
            state_reason="its sidecar connected",
            drivers=hello.drivers,
            labels=hello.labels,
            task_id=held[0].lease.task_id if held else "",
            isolation=hello.isolation if hello.isolation.driver else IsolationStatus(requested_level=hello.default_level),
            sidecar_pid=hello.pid,
            host=hello.host,
            version=hello.version,
            strongest_level=hello.strongest_level,
            default_level=hello.default_level,
            default_limits=hello.default_limits,
            capacity=hello.capacity,
            long_running=hello.long_running,
            credential=hello.credential,
            credential_drivers=hello.credential_drivers,
        )

    async def close(self, session: Session, reason: str) -> None:
        """The stream ended. The agent may go on, and its leases decide; one that left is forgotten if nothing waits for it."""
        self._mail.close_link(session.connected.link)
        if session.left:
            await self._registry.leave(session.connected)
        else:
            await self._registry.disconnect(session.connected, reason)

    async def lose(self, held: Held, why: str) -> None:
        """The agent that holds this lease is gone, or out of time: its task goes to another one."""
        task = await self._store.get(held.tenant_id, held.lease.task_id)
        await self._tasks.try_change(task, AgentLost(held.lease, why, self._clock.now()))
        self._leases.release_if(held)

    async def sidecar_exited(self, tenant_id: TenantId, agent_id: AgentId, pid: int, cause: str) -> None:
        """The supervisor saw a sidecar end: everything that process held is lost."""
        agent = self._registry.find(tenant_id, agent_id)
        if agent is None or agent.sidecar_pid != pid:
            return  # an older process than the one that is connected
        for held in self._leases.of_agent(tenant_id, agent_id):
            if held.incarnation == agent.incarnation:
                await self.lose(held, f"its sidecar ended ({cause})" if cause else "its sidecar ended")

    def heartbeat(self, session: Session, beat: Beat) -> None:
        """Note a sign of life. Leases that are not in force are revoked."""
        self._renew(session, beat.leases)
        if beat.leaving:
            session.left, session.connected.ready = True, False
        if self._registry.said(session.connected, beat.state, beat.reason, beat.use):
            self._ready()

    def _renew(self, session: Session, leases: Sequence[Lease]) -> None:
        """Start the time of these leases anew; those that are not in force are revoked, as a completed one may be, too."""
        stale = [lease for lease in leases if not self._leases.renew(lease, session.tenant_id, session.agent_id)]
        if stale:
            session.connected.link.revoke(stale)
        for lease in stale:
            if self._leases.missed(lease):
                self._tasks.lease_revoked(session.tenant_id, session.agent_id, lease)

    def passed(self, session: Session, frame: Numbered) -> bool:
        """Take the next frame of the journal if that needs neither the store nor an answer; else change nothing.

        For most ephemeral messages: nothing is waited for. Every other frame goes to `commit`.
        """
        message = frame.content
        if not isinstance(message, Message) or message.traceparent or frame.sequence <= session.committed:
            return False
        agent_id, long_running = session.agent_id, session.connected.long_running
        sender = self._directory.known_sender(session.tenant_id, agent_id, message.header.task_id, long_running=long_running)
        if sender is None:
            return False
        if not self._passing.at_once(session.tenant_id, sender, agent_id, message.header, message.shape, message.frame):
            return False
        self._advance(session, frame.sequence)
        return True

    async def commit(self, session: Session, frames: Sequence[Numbered]) -> list[Answer]:
        """Take frames of the journal in order and return what is to be told of some; repeats are dropped.

        Messages that stand next to each other are stored in one write.

        Raises:
            StoreUnavailableError: Frames from some point on were not taken; `session.committed` says from which. The session
                has to end, so that the sidecar sends them again.
        """
        answers: list[Answer] = []
        fresh = [frame for frame in frames if frame.sequence > session.committed]
        index = 0
        while index < len(fresh):
            run = _messages_from(fresh, index)
            if run:
                answers += await self._send(session, run)
                index += len(run)
            else:
                answers += await self._take(session, fresh[index])
                index += 1
            self._advance(session, fresh[index - 1].sequence)
        return answers

    def _advance(self, session: Session, sequence: int) -> None:
        session.committed = max(session.committed, sequence)
        self._committed[session.tenant_id, session.agent_id] = (session.connected.incarnation, session.committed)

    async def _send(self, session: Session, run: Sequence[tuple[int, Message]]) -> list[Answer]:
        spans = [
            self._tracer.start("message relay", parent=message.traceparent, kind="producer")
            for _, message in run
            if message.traceparent
        ]
        offers: list[Offer] = []
        sequences: list[int] = []
        answers: list[Answer] = []
        for sequence, message in run:
            try:
                sender = await self._directory.sender(
                    session.tenant_id,
                    session.agent_id,
                    message.header.task_id,
                    long_running=session.connected.long_running,
                )
            except ConductorError as error:
                answers.append(Refusal(sequence, _unless_store(error)))
                continue
            offers.append(Offer(session.tenant_id, sender, message.header, message.shape, message.frame, session.agent_id))
            sequences.append(sequence)
        for sequence, verdict in zip(sequences, await self._relay.accept(offers), strict=True):
            if isinstance(verdict, ConductorError):
                answers.append(Refusal(sequence, verdict))
            elif verdict.recipients != 1:
                answers.append(Published(sequence, verdict.recipients))
        for span in spans:
            span.end()
        return answers

    async def _take(self, session: Session, frame: Numbered) -> list[Answer]:
        try:
            match frame.content:
                case ConductorError() as error:
                    return [Refusal(frame.sequence, error)]
                case Receipts(by_mailbox=by_mailbox):
                    for name, receipts in by_mailbox.items():
                        await self._relay.receive(session.tenant_id, session.agent_id, name, receipts)
                case Message():
                    return await self._send(session, [(frame.sequence, frame.content)])
                case _ as report:
                    await self._results.take(session.tenant_id, session.agent_id, report)
        except ConductorError as error:
            return [Refusal(frame.sequence, _unless_store(error))]
        return []


def _messages_from(frames: Sequence[Numbered], index: int) -> list[tuple[int, Message]]:
    run: list[tuple[int, Message]] = []
    for frame in frames[index:]:
        if not isinstance(frame.content, Message):
            break
        run.append((frame.sequence, frame.content))
    return run


def _unless_store(error: ConductorError) -> ConductorError:
    """Return the error if it is an answer; an unavailable store is none, and ends the session instead."""
    if isinstance(error, StoreUnavailableError):
        raise error
    return error

"""How is the control plane put together, started and stopped? The only place that knows every part."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from claude_conductor.clock import Clock, SystemClock, SystemMint
from claude_conductor.errors import ConductorError, SettingsError
from claude_conductor.ids import Mint
from claude_conductor.rpc import process
from claude_conductor.rpc.server import claim_socket
from claude_conductor.telemetry.traces import PassingTracer, Tracer, open_tracer
from controlplane.api import supervision
from controlplane.api.admin_servicer import StatusServicer
from controlplane.api.agent_servicer import FleetServicer
from controlplane.api.artefact_servicer import FileServicer
from controlplane.api.audit_servicer import ChainServicer
from controlplane.api.certificate_servicer import AuthorityServicer
from controlplane.api.convert.frames import Frames
from controlplane.api.convert.task import Defaults
from controlplane.api.credential_servicer import Doors, TokenServicer
from controlplane.api.enrolment_servicer import JoiningServicer
from controlplane.api.event_servicer import WatchServicer
from controlplane.api.message_servicer import MailServicer
from controlplane.api.schedule_servicer import PlanServicer
from controlplane.api.server import Listener, Servicers
from controlplane.api.session.servicer import SessionServicer, Terms
from controlplane.api.session.writer import StreamBounds
from controlplane.api.task_servicer import TaskQueueServicer
from controlplane.backends.blobs.directory import BlobDirectory
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.types.folder import TypeFolder
from controlplane.domain.rate import Rate
from controlplane.domain.routing import Bounds
from controlplane.identity.signer import Signer
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import SubscriptionLimits
from controlplane.listening import Guards, listeners, open_certificates, start
from controlplane.service.audit import Audit
from controlplane.service.directory import Directory
from controlplane.service.dispatch import Dispatch
from controlplane.service.expiry import Expiry
from controlplane.service.identities import Identities
from controlplane.service.in_hand import InHand
from controlplane.service.intake import Intake
from controlplane.service.kinds import Kinds
from controlplane.service.leases import Leases
from controlplane.service.letters import Letters
from controlplane.service.mail import Mail
from controlplane.service.meter import Meter
from controlplane.service.news import MessageNews
from controlplane.service.output import Output
from controlplane.service.passing import Passing
from controlplane.service.permissions import Permissions
from controlplane.service.post import Post
from controlplane.service.publishing import Publishing
from controlplane.service.pulse import Pulse
from controlplane.service.quarantine import Quarantine
from controlplane.service.rates import Rates
from controlplane.service.recovery import recover
from controlplane.service.registry import Registry
from controlplane.service.relay import Relay
from controlplane.service.results import Results
from controlplane.service.retention import Retention
from controlplane.service.scheduler import Scheduler
from controlplane.service.schedules import Schedules
from controlplane.service.sessions import Sessions
from controlplane.service.subscribing import Subscribing
from controlplane.service.tasks import Books, Tasks
from controlplane.service.timed import timed
from controlplane.service.timetable import Timetable
from controlplane.service.waiting import Waiting
from controlplane.service.watch import Watch
from controlplane.service.windows import Windows
from controlplane.service.work import Work
from controlplane.settings import Settings

if TYPE_CHECKING:
    from controlplane.service.certificates import Certificates

_log = logging.getLogger(__name__)
STOP_SECONDS = 0.5
"""How long streams have to end by themselves."""
ARTEFACT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Parts:
    """What the control plane consists of."""

    clock: Clock
    stores: Stores
    registry: Registry
    sessions: Sessions
    dispatch: Dispatch
    expiry: Expiry
    retention: Retention
    scheduler: Scheduler
    watch: Watch
    tasks: Tasks
    relay: Relay
    post: Post
    servicers: Servicers
    certificates: Certificates | None
    identities: Identities
    audit: Audit
    meter: Meter | None
    """None where nobody reads metrics."""


async def open_stores(settings: Settings, clock: Clock) -> Stores:
    """Open the stores the settings name.

    Raises:
        SettingsError: There is no such store, or it is not fit.
        StoreUnavailableError: It cannot be opened, or reached.
    """
    limits = settings.limits
    bounds = MailboxLimits(
        limits.mailbox_messages,
        limits.mailbox_bytes,
        limits.message_attempts,
        limits.kept_messages,
        int(limits.kept_seconds * 1000),
        limits.kept_bytes,
    )
    subscriptions = SubscriptionLimits(limits.subscriptions, limits.subscribers)
    if settings.store == "sqlite":
        from controlplane.backends.sqlite.stores import open_sqlite  # noqa: PLC0415 - one backend is loaded, not all

        return open_sqlite(settings.home / "state" / "conductor.db", clock, bounds, subscriptions=subscriptions)
    if settings.store == "memory":
        from controlplane.backends.memory.stores import open_memory  # noqa: PLC0415 - one backend is loaded, not all

        return open_memory(clock, bounds, subscriptions)
    if "://" in settings.store:
        from controlplane.backends.redis.address import parse  # noqa: PLC0415 - one backend is loaded, not all
        from controlplane.backends.redis.stores import enter, open_redis  # noqa: PLC0415

        address = parse(settings.store)
        return await enter(open_redis(address, clock, bounds, subscriptions=subscriptions, home=settings.home))
    raise SettingsError("A store is `sqlite`, `memory` or the URL of a Redis server.", key="store", value=settings.store)


def build(  # noqa: PLR0915 - one list of what is made of what
    settings: Settings, stores: Stores, output_log: OutputDirectory, work: Work, clock: Clock, tracer: Tracer
) -> Parts:
    """Put the parts together; nothing runs yet."""
    limits = settings.limits
    mint = SystemMint(clock)
    certificates = open_certificates(settings, clock)
    identities = Identities(stores.identities, clock, mint)
    signer = Signer(settings.home / "audit")
    audit = Audit(stores.audit, signer.sign, clock)
    meter = Meter() if settings.metrics_port else None
    if meter is not None:
        stores = replace(stores, tasks=timed(stores.tasks, "tasks", meter), mailboxes=timed(stores.mailboxes, "mailboxes", meter))
    watch, timetable, changed, ready = Watch(stores.events, meter), Timetable(clock), Pulse(), asyncio.Event()
    registry = Registry(stores.agents, watch, clock, Windows(clock, settings.starts_after_limit))
    leases = Leases(clock, settings.lease_seconds)
    directory = Directory(registry, leases, stores.tasks)
    news = MessageNews(watch, clock)
    mail = Mail(stores.mailboxes, clock, work, news, meter)
    bounds = Bounds(limits.payload_bytes, limits.hops, int(limits.message_seconds * 1000))
    permissions = Permissions(settings.policy, registry, leases, stores.tasks, watch, clock)
    publishing = Publishing(stores.mailboxes, stores.subscriptions, directory, mail, news, timetable, clock, permissions)
    rates = Rates(Rate(limits.messages_a_second, limits.messages_at_once), clock)
    passing = Passing(mail, directory, permissions, rates, clock, bounds, meter)
    relay = Relay(
        *(stores.mailboxes, mail, directory, Frames(), news, timetable, clock, bounds, work, publishing),
        *(passing, rates, permissions, meter),
    )
    post = Post(stores.mailboxes, mail.arrived, clock, mail.live)
    letters = Letters(stores.mailboxes, directory, Frames(), mail, news, timetable, clock, work)
    in_hand = InHand(settings.caps)
    books = Books(leases, registry, mail, timetable, changed, ready.set, in_hand, meter)
    tasks = Tasks(stores.tasks, books, relay, watch, clock, tracer, work)
    output = Output(output_log, stores.tasks, changed)
    blobs = BlobDirectory(settings.home / "blobs")
    results = Results(stores.tasks, tasks, leases, registry, output, watch, clock, random.random)
    sessions = Sessions(stores.tasks, tasks, registry, leases, mail, relay, results, passing, directory, clock, tracer, ready.set)
    intake = Intake(stores.tasks, tasks, clock, mint, limits.prompt_bytes, work, settings.caps)
    defaults = Defaults(settings.default_driver, settings.task_timeout, settings.max_attempts, settings.retry_delay)
    kinds, planned = Kinds(TypeFolder(settings.home / "types")), asyncio.Event()
    schedules = Schedules(stores.schedules, intake, clock, mint, planned)
    servicers = Servicers(
        session=_session_servicer(settings, sessions, mail, mint, tracer),
        task=TaskQueueServicer(
            stores.tasks,
            intake,
            leases,
            output,
            changed,
            Waiting(stores.tasks, registry, in_hand, clock),
            defaults,
            kinds,
        ),
        agent=FleetServicer(registry, directory, permissions, Quarantine(identities, sessions, registry, leases, watch, clock)),
        message=MailServicer(
            stores.mailboxes,
            relay,
            post,
            letters,
            Subscribing(stores.subscriptions, directory),
            mint,
            clock,
            limits.payload_bytes,
        ),
        event=WatchServicer(watch),
        artefact=FileServicer(blobs, ARTEFACT_BYTES),
        admin=StatusServicer(tasks, registry, settings.store_shown, clock.now()),
        certificate=AuthorityServicer(certificates, identities),
        credential=TokenServicer(identities, certificates, Doors(settings.listen.sidecars, settings.listen.clients)),
        enrolment=JoiningServicer(certificates, identities, settings.listen.sidecars_told),
        audit=ChainServicer(audit, stores.audit, signer),
        schedule=PlanServicer(stores.schedules, schedules, defaults, kinds),
    )
    dispatch = Dispatch(stores.tasks, tasks, registry, in_hand, mail, ready, clock, secrets.randbits, tracer)
    expiry = Expiry(stores.tasks, tasks, sessions, leases, relay, timetable, clock)
    retention = Retention(stores.tasks, output_log, blobs, clock, settings.keep_tasks_days * 86_400)
    scheduler = Scheduler(stores.schedules, schedules, stores.tasks, intake, watch, clock, planned)
    return Parts(
        clock,
        stores,
        registry,
        sessions,
        dispatch,
        expiry,
        retention,
        scheduler,
        watch,
        tasks,
        relay,
        post,
        servicers,
        certificates,
        identities,
        audit,
        meter,
    )


def _session_servicer(settings: Settings, sessions: Sessions, mail: Mail, mint: Mint, tracer: Tracer) -> SessionServicer:
    limits, streams = settings.limits, settings.streams
    bounds = StreamBounds(streams.queue_bytes, streams.ahead_messages, streams.ahead_bytes)
    lease = (settings.lease_seconds, settings.heartbeat_seconds)
    terms = Terms(*lease, limits.payload_bytes, limits.message_attempts, bounds)
    return SessionServicer(sessions, mail, terms, mint, tracing=not isinstance(tracer, PassingTracer))


async def serve(settings: Settings, environment: Mapping[str, str], supervision_descriptor: int | None) -> None:
    """Run the control plane until SIGTERM or SIGINT.

    Order: store, services, leases anew, socket, healthy; and back: unhealthy, streams told to move, grace, store closed.

    Raises:
        ConductorError: It could not start; nothing is left behind.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = SystemClock()
    address = claim_socket(settings.socket_path)
    tracer = open_tracer("conductor-controlplane", environment)
    stores = await open_stores(settings, clock)
    try:
        output_log = OutputDirectory(settings.home / "state" / "output", settings.limits.output_bytes)
        failed: ConductorError | None = None
        async with asyncio.TaskGroup() as group:
            work = Work(group)
            try:
                parts = build(settings, stores, output_log, work, clock, tracer)
                listening = await _start(settings, parts, work, tracer, address)
                work.start(_hold(stores, stop), name="store")
                if supervision_descriptor is not None:
                    work.start(supervision.listen(supervision_descriptor, parts.sessions), name="supervision")
            except ConductorError as error:
                failed = error
            else:
                await stop.wait()
                await _stop(parts, listening)
                await work.settle(STOP_SECONDS)
                settings.socket_path.unlink(missing_ok=True)
            finally:
                work.cancel()
        await output_log.close()
        if failed is not None:
            raise failed
    finally:
        await stores.close()
        tracer.shutdown()


async def _hold(stores: Stores, stop: asyncio.Event) -> None:
    """End this process when another one has taken the stores over."""
    await stores.hold()
    stop.set()


async def _start(settings: Settings, parts: Parts, work: Work, tracer: Tracer, address: str) -> list[Listener]:
    await recover(parts.stores.tasks, parts.tasks, parts.registry, parts.relay, parts.clock, settings.caps)
    await parts.identities.load()
    work.start(parts.identities.keep(), name="identities")
    work.start(parts.audit.run(), name="audit")
    work.start(parts.audit.sign(), name="audit heads")
    work.start(parts.watch.run(), name="events")
    work.start(parts.dispatch.run(), name="dispatch")
    work.start(parts.expiry.run(), name="expiry")
    work.start(parts.retention.run(), name="retention")
    if parts.certificates is not None:
        work.start(parts.certificates.keep(), name="certificates")
    work.start(parts.scheduler.run(), name="schedules")
    guards = Guards(settings, parts.identities, parts.audit, parts.clock, (tracer, parts.meter))
    found = listeners(settings, address, parts.servicers, guards, parts.certificates)
    listening = await start(settings, found, address)
    if parts.meter is not None:
        await _serve_metrics(settings, parts, parts.meter, work)
    for listener in listening:
        await listener.serving()
    process.settled()
    _log.info("serving", extra={"address": address, "store": settings.store_shown})
    return listening


async def _serve_metrics(settings: Settings, parts: Parts, meter: Meter, work: Work) -> None:
    from controlplane.api.readings import scrape  # noqa: PLC0415 - Prometheus' library is loaded where it is used only

    served = scrape(meter, parts.registry, parts.watch, parts.clock, settings.store)
    await served.start(settings.metrics_port)
    work.start(served.run(), name="metrics")


async def _stop(parts: Parts, listening: Sequence[Listener]) -> None:
    _log.info("stopping")
    for listener in listening:
        await listener.not_serving()
    for connected in parts.registry.all_connected():
        connected.ready = False
        connected.link.move(STOP_SECONDS)
    parts.post.drain()
    async with asyncio.TaskGroup() as group:
        for listener in listening:
            group.create_task(listener.stop(STOP_SECONDS), name="stop a listener")
    await parts.watch.flush()
    with contextlib.suppress(ConductorError):  # what could not be signed now is signed by the next life
        await parts.audit.state()

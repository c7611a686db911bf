"""How a sidecar is put together, started and stopped: the only place that knows every part of it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

from agent_sidecar.drivers import catalog
from agent_sidecar.drivers.catalog import DriverSettings
from agent_sidecar.drivers.driver import AgentDriver
from agent_sidecar.drivers.finder import HostFinder
from agent_sidecar.drivers.toolchain import python_toolchain, running_interpreter
from agent_sidecar.egress.door import SOCKET, Decision, EgressDoor, OpenProxy, open_proxy
from agent_sidecar.egress.tally import Tally
from agent_sidecar.gateway.door import Door, open_gateway
from agent_sidecar.gateway.hold import Hold
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import provider_at
from agent_sidecar.isolation.interface import IsolationDriver, Level, Refusal, Spec
from agent_sidecar.local import agent_tools
from agent_sidecar.local.calls import ControlPlane
from agent_sidecar.local.local_servicer import LocalServicer, Reach
from agent_sidecar.local.server import LocalServer
from agent_sidecar.run.files.git import Git
from agent_sidecar.run.files.setup_cache import SetupCache
from agent_sidecar.run.folders import Folders, check
from agent_sidecar.run.hooks.credentials import CredentialsHook, GatewayOpener, OpenGateway, Told
from agent_sidecar.run.hooks.egress import EgressHook
from agent_sidecar.run.hooks.environment import EnvironmentHook
from agent_sidecar.run.hooks.isolation import IsolationHook
from agent_sidecar.run.hooks.output import OutputHook
from agent_sidecar.run.hooks.setup import Room, SetupHook
from agent_sidecar.run.hooks.usage import UsageHook
from agent_sidecar.run.hooks.watchdog import WatchdogHook
from agent_sidecar.run.hooks.workspace import Kept, WorkspaceHook
from agent_sidecar.run.keeper import Program
from agent_sidecar.run.long_running import LongRunningSlot
from agent_sidecar.run.runner import Bounds, Surroundings, TaskRunner
from agent_sidecar.settings import Settings
from agent_sidecar.untrusted.doorway import Owner
from agent_sidecar.uplink import convert
from agent_sidecar.uplink.identity import HomeIdentity, Identity, JoinedIdentity, tls_of
from agent_sidecar.uplink.inbox import Inbox, InboxLimits
from agent_sidecar.uplink.journal import Journal
from agent_sidecar.uplink.line import Line
from agent_sidecar.uplink.outbox import Outbox, OutboxLimits
from agent_sidecar.uplink.questions import Questions
from agent_sidecar.uplink.reconnect import Reconnect
from agent_sidecar.uplink.reporting import Reporting
from agent_sidecar.uplink.sending import Sender
from agent_sidecar.uplink.session import Parts, Session
from agent_sidecar.uplink.uploads import Uploads
from claude_conductor import __version__
from claude_conductor.clock import SystemClock, SystemMint
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.identity import kept as kept_identity
from claude_conductor.rpc.channel import Tls
from claude_conductor.telemetry.traces import open_tracer
from claude_conductor.v1.agent_pb2 import ResourceLimits
from claude_conductor.v1.session_service_pb2 import ProviderCredential, SidecarHello

_log = logging.getLogger(__name__)
_FLUSH_SECONDS: Final = 2.0
_FAREWELL_SECONDS: Final = 1.0
_GATEWAY: Final = GatewayLimits()


class Sidecar:
    """One slot, from its start to its end.

    Args:
        settings: Checked.
        isolation: Started before grpc was imported; closed at the end.
        environment: The process's: PATH and OTEL_*.
    """

    def __init__(self, settings: Settings, isolation: IsolationDriver, environment: Mapping[str, str]) -> None:
        check(settings)
        self._settings = settings
        self._isolation = isolation
        self._environment = environment
        self._folders = Folders.of(settings)
        self._tools = agent_tools.find()
        self._clock = SystemClock()
        self._mint = SystemMint(self._clock)
        self._incarnation = self._mint("life_")
        kept = kept_identity.read(settings.identity) if settings.identity is not None else None
        self._line = Line(settings.control_plane, tls_of(kept) if kept is not None else None)
        self._identity = self._identified(kept)
        self._session: Session | None = None
        self._provider = provider_at(settings.provider.base_url, settings.provider.api_key)
        self._hold = Hold(self._clock, _GATEWAY.exchanges)
        self._stop = asyncio.Event()

    def _identified(self, kept: kept_identity.Kept | None) -> Identity:
        if kept is None or self._settings.identity is None:
            return HomeIdentity(self._settings.token.reveal())

        async def hand_over(tls: Tls, begun: Callable[[], None]) -> None:
            await self._line.hand_over(tls, begun)
            if self._session is not None:
                self._session.leave()

        return JoinedIdentity(kept, self._settings.identity, self._line.channel, hand_over, self._clock.now, random.random)

    def stop(self) -> None:
        """Ask for an orderly end."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            ConductorError: It could not start.
        """
        settings = self._settings
        self._folders.prepare()
        agent_tools.install(self._tools, self._folders.sockets)
        swept = await self._isolation.sweep()
        if swept:
            _log.warning("removed what an earlier life left behind", extra={"found": swept[:20], "count": len(swept)})
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._isolation.close)
            stack.push_async_callback(self._line.close)
            tracer = open_tracer("agent_sidecar", self._environment, instance=settings.agent_id)
            stack.push_async_callback(asyncio.to_thread, tracer.shutdown)
            journal = Journal(self._folders.state / "journal.db")
            connection = journal.open()
            stack.push_async_callback(journal.close)
            outbox = Outbox(journal, OutboxLimits(journal=settings.journal_bytes))
            outbox.load(connection)
            inbox = Inbox(journal, outbox, InboxLimits(settings.inbox_messages, settings.inbox_bytes), clock=self._clock)
            inbox.load(connection)
            journal.start()
            sender = Sender(outbox, self._clock)
            slot = self._slot(Surroundings(Reporting(outbox), inbox, tracer, self._clock, self._mint))
            parts = Parts(outbox, inbox, sender, slot, settings.stop_grace, Questions(outbox, self._clock), on_hold=self._held)
            door = self._door(slot, parts)
            await door.start()
            stack.push_async_callback(door.stop)
            if settings.agent_command and settings.allow and settings.level is not Level.MINIMAL:
                tally = Tally()  # of the agent's whole life: what it asks for belongs to no task, and is in the log
                proxy = await self._open_proxy(settings.allow, tally.note)
                stack.push_async_callback(proxy.close)
            await self._serve(slot, parts)

    async def _serve(self, slot: TaskRunner | LongRunningSlot, parts: Parts) -> None:
        identity = self._identity
        uploads = Uploads(parts.outbox, self._folders.places.patches, self._line.channel, identity.metadata, random.random)
        strongest = self._strongest()

        async def connect(address: str, on_welcome: Callable[[], None]) -> None:
            channel = await self._line.go_to(address)
            self._session = Session(channel, identity.metadata(), lambda: self._hello(strongest), parts, on_welcome)
            await self._session.run()

        reconnect = Reconnect(connect, random.random)
        async with asyncio.TaskGroup() as group:
            uplink = group.create_task(reconnect.serve(), name="uplink")
            tasks = [
                uplink,
                group.create_task(uploads.serve(), name="uploads"),
                group.create_task(slot.serve(), name="slot"),
                group.create_task(identity.serve(), name="identity"),
            ]
            await self._stop.wait()
            _log.info("stopping")
            await slot.stop()
            await self._flush(parts.outbox, reconnect)
            await self._leave(parts, reconnect, uplink)
            for task in tasks:
                task.cancel()

    async def _flush(self, outbox: Outbox, reconnect: Reconnect) -> None:
        """Give what is journalled a moment to be committed, if anybody is there to do it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS if reconnect.standing.is_set() else 0):
                await outbox.drained.wait()

    async def _leave(self, parts: Parts, reconnect: Reconnect, uplink: asyncio.Task[None]) -> None:
        """Tell the control plane, if a session stands, that this agent will not come back by itself."""
        if reconnect.standing.is_set():
            reconnect.leave()
            parts.terms.leaving = True
            parts.slot.changed.set()
            await asyncio.wait([uplink], timeout=_FAREWELL_SECONDS)

    def _slot(self, surroundings: Surroundings) -> TaskRunner | LongRunningSlot:
        settings, folders = self._settings, self._folders
        bounds = Bounds(
            settings.level, settings.limits, settings.startup_timeout, settings.stop_grace, settings.health_check_interval
        )
        git = Git(folders.state / "gitconfig", self._environment.get("PATH", os.defpath))
        git.prepare()
        drivers = self._drivers()
        if settings.agent_command:
            program = Program(
                agent_id=settings.agent_id,
                driver=drivers["grpc_agent"],
                isolation=self._isolation,
                home=folders.home,
                sockets=folders.sockets,
                toolchains=(*settings.agent_toolchains, *self._tools.shown),
                environment=settings.agent_environment,
                allow=settings.allow if settings.level is not Level.MINIMAL else (),
            )
            return LongRunningSlot(bounds, program, self._workspace_hook(git, surroundings), surroundings, random.random)

        def find_driver(name: str) -> AgentDriver:
            driver = catalog.find(drivers, name)
            if driver.name not in settings.drivers or driver.capabilities.long_running:
                raise InvalidArgumentError("This agent does not run tasks of this kind.", driver=name)
            return driver

        hooks = (
            self._workspace_hook(git, surroundings),
            self._setup_hook(surroundings),
            CredentialsHook(
                *(self._gateway_opener(), self._clock, surroundings.reports, settings.provider.prices),
                self._provider.credential_id,
            ),
            EnvironmentHook(settings.agent_id, folders.sockets, surroundings.tracer),
            EgressHook(self._open_proxy, settings.allow, surroundings.reports),
            self._isolation_hook(surroundings),
            OutputHook(surroundings.reports, self._clock),
            WatchdogHook(self._clock, settings.health_check_interval),
            UsageHook(surroundings.reports, self._clock),
        )
        return TaskRunner(bounds, find_driver, hooks, surroundings)

    def _workspace_hook(self, git: Git, surroundings: Surroundings) -> WorkspaceHook:
        return WorkspaceHook(
            self._folders.places,
            git,
            surroundings.tracer,
            agent_id=self._settings.agent_id,
            agent_uid=self._isolation.agent_uid,
            mount=self._settings.workspace_mount,
            kept=Kept(self._settings.keep_workspaces, self._settings.keep_workspaces_for),
            now=self._clock.now,
        )

    def _setup_hook(self, surroundings: Surroundings) -> SetupHook:
        settings, folders = self._settings, self._folders
        cache = SetupCache(folders.setups, settings.setup_cache_bytes, self._clock)
        room = Room(self._isolation, folders.no_sockets, settings.agent_toolchains, settings.agent_id, settings.stop_grace)
        return SetupHook(room, cache, surroundings.reports, self._clock, surroundings.tracer)

    def _isolation_hook(self, surroundings: Surroundings) -> IsolationHook:
        return IsolationHook(
            self._isolation,
            sockets=self._folders.sockets,
            toolchains=(*self._settings.agent_toolchains, *self._tools.shown),
            agent_id=self._settings.agent_id,
            reports=surroundings.reports,
            tracer=surroundings.tracer,
        )

    def _drivers(self) -> Mapping[str, AgentDriver]:
        settings = self._settings
        finder = HostFinder(self._environment.get("PATH", os.defpath))
        described = DriverSettings(
            toolchains=settings.agent_toolchains,
            grpc_program=settings.agent_command,
            claude_program=Path(settings.claude_binary) if settings.claude_binary else None,
            tools_program=agent_tools.PROGRAM if settings.mcp_tools else "",
        )
        return catalog.build(described, finder, python_toolchain(running_interpreter(), finder))

    def _gateway_opener(self) -> GatewayOpener | None:
        if not self._settings.provider.api_key:
            return None
        uid = self._isolation.agent_uid

        async def opener(told: Told, /) -> OpenGateway:
            path = self._folders.sockets / "model.sock"
            owner = Owner(uid, uid) if uid != os.geteuid() else None
            return await open_gateway(
                Door(
                    path=path,
                    provider=self._provider,
                    on_usage=told.usage,
                    on_rate_limit=told.limited,
                    clock=self._clock,
                    limits=_GATEWAY,
                    owner=owner,
                    hold=self._hold,
                    on_hold=told.held,
                    on_taken=told.taken,
                    purse=told.purse,
                )
            )

        return opener

    async def _open_proxy(self, allow: Sequence[str], on_decision: Callable[[Decision], None], /) -> OpenProxy:
        uid = self._isolation.agent_uid
        owner = Owner(uid, uid) if uid != os.geteuid() else None
        return await open_proxy(EgressDoor(self._folders.sockets / SOCKET, allow, on_decision, owner=owner))

    def _door(self, slot: TaskRunner | LongRunningSlot, parts: Parts) -> LocalServer:
        reach = Reach(
            agent_id=self._settings.agent_id,
            desk=slot,
            post=parts.sender,
            letters=parts.inbox,
            humans=parts.questions,
            control_plane=ControlPlane(self._line.channel, self._identity.metadata),
            largest_payload=lambda: parts.terms.max_payload_bytes,
            clock=self._clock,
            mint=self._mint,
        )
        return LocalServer(self._folders.sockets, LocalServicer(reach), self._isolation.agent_uid)

    def _strongest(self) -> Level | None:
        """Return the highest level at which this host could run an agent of these settings."""
        for level in (Level.STRICT, Level.MODERATE, Level.MINIMAL):
            spec = Spec(
                agent_id=self._settings.agent_id,
                run_id="hello",
                argv=("/bin/true",),
                environment={},
                workspace=self._folders.places.workspaces,
                socket_directory=self._folders.sockets,
                level=level,
                limits=self._settings.limits,
            )
            if not isinstance(self._isolation.plan(spec), Refusal):
                return level
        return None

    def _hello(self, strongest: Level | None) -> SidecarHello:
        settings = self._settings
        return SidecarHello(
            incarnation=self._incarnation,
            drivers=("grpc_agent",) if settings.agent_command else settings.drivers,
            labels=settings.labels,
            strongest_level=convert.level_to(strongest),
            default_isolation=convert.spec_to(settings.level, settings.limits),
            version=__version__,
            pid=os.getpid(),
            host=socket.gethostname(),
            long_running=bool(settings.agent_command),
            capacity=_capacity(),
            credential=self._credential(),
        )

    def _credential(self) -> ProviderCredential | None:
        if not self._provider.credential_id or self._settings.agent_command:
            return None
        closed = self._hold.reset_in
        return ProviderCredential(
            credential_id=self._provider.credential_id,
            drivers=[
                name
                for name, driver in self._drivers().items()
                if name in self._settings.drivers and driver.capabilities.needs_gateway
            ],
            closed=convert.duration(closed) if closed else None,
        )

    def _held(self, credential: str, reset: float, turn: float) -> None:
        """Take note of a rate limit that somebody with the same key ran into."""
        if credential == self._provider.credential_id:
            self._hold.close(reset, turn)


def _capacity() -> ResourceLimits:
    """Return what this host has: no run can be given more."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kernel = Path("/proc/sys/kernel")  # proc(5): every thread counts as a process does, and has an id of its own
    pids = min(int((kernel / name).read_text()) for name in ("threads-max", "pid_max"))
    return ResourceLimits(memory_bytes=memory, cpus=len(os.sched_getaffinity(0)), pids=pids)


async def serve(settings: Settings, isolation: IsolationDriver, environment: Mapping[str, str]) -> None:
    """Run a sidecar until SIGTERM or SIGINT.

    Raises:
        ConductorError: It could not start.
    """
    sidecar = Sidecar(settings, isolation, environment)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sidecar.stop)
    await sidecar.run()

"""What is a sidecar here? Its real uplink over a journal in memory, which survives a kill as far as it was committed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent_sidecar.run.task import Activity, Assignment, Cancellation, Condition, InForce, Lease
from agent_sidecar.uplink.inbox import Inbox, InboxLimits
from agent_sidecar.uplink.journal import _SCHEMA, Change, Journal, _add_columns, _tell
from agent_sidecar.uplink.outbox import Outbox
from agent_sidecar.uplink.questions import Questions
from agent_sidecar.uplink.reconnect import Reconnect
from agent_sidecar.uplink.sending import Sender
from agent_sidecar.uplink.session import Parts, Session
from claude_conductor.errors import StoreUnavailableError
from claude_conductor.v1.session_service_pb2 import SidecarHello
from tests.simulation.processes import Fate, Process, VirtualClock
from tests.simulation.wire import Channel, Network


def new_disk() -> sqlite3.Connection:
    """Return an empty journal file."""
    disk = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    disk.executescript(_SCHEMA)
    _add_columns(disk)
    return disk


class _Later:
    """The loop as the journal's writer sees it: what it announces arrives a little later, in order, if anybody lives."""

    def __init__(self, process: Process, fate: Fate) -> None:
        self._process = process
        self._fate = fate
        self._last = 0.0

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-7, loop.time() + self._fate.delay(0.001))
        loop.call_at(self._last, self._told, callback, *args)

    def _told(self, callback: Callable[..., object], *args: object) -> None:
        if self._process.alive:
            callback(*args)


class SimulatedJournal(Journal):
    """The journal without its thread: its commits happen when the seed says, and the same code makes them."""

    def __init__(self, disk: sqlite3.Connection, process: Process, fate: Fate, failing: float) -> None:
        super().__init__(Path("journal.db"))
        self._connection = disk
        self._process = process
        self._fate = fate
        self._failing = failing
        self._due = False

    def start(self) -> None:
        self._loop = _Later(self._process, self._fate)  # type: ignore[assignment]

    def submit(self, change: Change[Any], then: Callable[[Any], None] | None = None) -> asyncio.Future[Any]:
        submitted = super().submit(change, then)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(self._fate.delay(0.002), self._round)
        return submitted

    def _round(self) -> None:
        self._due = False
        if not self._process.alive:
            return
        batch = []
        while not self._queue.empty():
            item = self._queue.get_nowait()
            assert item is not None
            batch.append(item)
        if self._fate.strikes(self._failing):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(_tell, batch, StoreUnavailableError("The disk failed as the seed said."))
        else:
            self._commit(batch)


class IdleSlot:
    """A slot of a long-running agent that is given no tasks."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    def assign(self, assignment: Assignment) -> None:
        raise AssertionError(assignment)

    def cancel(self, lease: Lease, cancellation: Cancellation) -> None:
        raise AssertionError(lease, cancellation)

    def revoke(self, leases: Sequence[Lease]) -> None:
        raise AssertionError(leases)

    def leases(self) -> tuple[Lease, ...]:
        return ()

    def condition(self) -> Condition:
        return Condition(Activity.IDLE)

    def in_force(self) -> InForce | None:
        return None


class Slot:
    """One life of a sidecar process."""

    inbox_type: type[Inbox] = Inbox
    outbox_type: type[Outbox] = Outbox

    def __init__(
        self,
        agent_id: str,
        number: int,
        disk: sqlite3.Connection,
        network: Network,
        fate: Fate,
        limits: InboxLimits,
        failing: float,
    ) -> None:
        self.process = Process(f"sidecar {agent_id} {number}")
        self.agent_id = agent_id
        self._channel = Channel(network, agent_id)
        self._incarnation = f"life-{agent_id}-{number}"
        self._random = fate.random.random
        journal = SimulatedJournal(disk, self.process, fate, failing)
        self.outbox = self.outbox_type(journal)
        self.outbox.load(disk)
        self.inbox = self.inbox_type(journal, self.outbox, limits, VirtualClock())
        self.inbox.load(disk)
        journal.start()
        self.sender = Sender(self.outbox, VirtualClock())
        self.failure: BaseException | None = None

    def start(self) -> None:
        self.process.start(self._run(), "uplink")

    async def _run(self) -> None:
        parts = Parts(self.outbox, self.inbox, self.sender, IdleSlot(), 1.0, Questions(self.outbox, VirtualClock()))

        async def connect(address: str, on_welcome: Callable[[], None]) -> None:
            del address
            await Session(self._channel, (), self._hello, parts, on_welcome).run()  # type: ignore[arg-type]

        try:
            await Reconnect(connect, self._random).serve()
        except Exception as failure:  # noqa: BLE001 - a crash of the sidecar, which the checker reports
            self.failure = failure

    def _hello(self) -> SidecarHello:
        return SidecarHello(incarnation=self._incarnation, drivers=["grpc_agent"], long_running=True, pid=1)

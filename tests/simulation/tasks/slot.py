"""What is a sidecar here? A script: it takes tasks, works for a while, journals what it reports, dies and stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from claude_conductor.ids import Incarnation
from controlplane.domain.agent import Agent
from controlplane.domain.agent import State as AgentState
from controlplane.domain.budget import Spent
from controlplane.domain.task import Failure, FailureKind, IsolationStatus, Lease, Result, Task, Usage
from controlplane.service.results import HasClaimed, HasEnded, HasStarted
from controlplane.service.sessions import Beat, Hello, Numbered
from tests.simulation.processes import Fate, Process
from tests.simulation.tasks.history import Ended, History, Told, Used
from tests.simulation.tasks.plane import Committed, Plane
from tests.simulation.tasks.wire import CUT, Wire

HEARTBEAT = 1.0
OUTCOMES = (None, None, None, None, FailureKind.EXIT_CODE, FailureKind.SIGNAL, FailureKind.WORKSPACE, FailureKind.TIMEOUT)


@dataclass
class Disk:
    """What outlives a sidecar's process: what it has not been told is taken."""

    journal: dict[int, Numbered] = field(default_factory=dict)
    incarnation: str = ""


@dataclass
class _Work:
    lease: Lease
    running: asyncio.Task[None]


class Slot:
    """One life of a sidecar."""

    def __init__(self, agent: Agent, life: int, disk: Disk, plane: Callable[[], Plane], fate: Fate, history: History) -> None:
        self.agent = agent
        self.process = Process(f"{agent.id} life {life}")
        self.failure: BaseException | None = None
        self.frozen_until = 0.0
        self._disk = disk
        self._plane = plane
        self._fate = fate
        self._history = history
        self._sequence = 0
        self._work: _Work | None = None
        self._wire: Wire | None = None
        self._given: set[Lease] = set()
        self._used: dict[Lease, int] = {}
        self._claims: dict[int, asyncio.Future[bool | None]] = {}
        """What is waited for, by its number: granted, refused, or not known."""

    def start(self) -> None:
        # Numbers of a journal begin anew with each life; what an earlier one left is sent first.
        self._disk.journal = dict(enumerate(self._disk.journal.values(), 1))
        self._disk.journal = {number: Numbered(number, frame.content) for number, frame in self._disk.journal.items()}
        self._sequence = len(self._disk.journal)
        self.process.start(self._run(), "main")

    def kill(self) -> None:
        self.process.kill()
        if self._wire is not None:
            self._wire.cut()

    def freeze(self, seconds: float) -> None:
        """Stand still as a stuck loop does; the agent's process goes on."""
        self.frozen_until = asyncio.get_running_loop().time() + seconds

    @property
    def at_rest(self) -> bool:
        """Whether it is connected, works on nothing and has nothing to report."""
        return self._wire is not None and self._wire.open and self._work is None and not self._disk.journal

    def cut(self) -> None:
        if self._wire is not None:
            self._wire.cut()

    async def _run(self) -> None:
        try:
            while True:
                await self._thawed()
                plane = self._plane()
                if plane.serving:
                    await self._session(plane)
                await asyncio.sleep(self._fate.delay(0.2))
        except Exception as failure:  # noqa: BLE001 - a crash, which the checker reports
            self.failure = failure

    async def _thawed(self) -> None:
        while (left := self.frozen_until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 - virtual time costs nothing
            await asyncio.sleep(left)

    async def _session(self, plane: Plane) -> None:
        wire = self._wire = plane.wire()
        hello = Hello(
            1000,
            Incarnation(self.process.name),
            drivers=self.agent.drivers,
            labels=self.agent.labels,
            strongest_level=self.agent.strongest_level,
            active_leases=(*self._leases(), *self._finished()),
            pid=1,
        )
        plane.accept(self.agent.tenant_id, self.agent.id, hello, wire)
        welcome = await wire.next_down()
        if welcome is CUT:
            return
        self._take(welcome)
        for frame in list(self._disk.journal.values()):
            wire.up([frame])
        beats = self.process.start(self._beat(wire), "heartbeat")
        try:
            while (item := await wire.next_down()) is not CUT:
                await self._thawed()
                self._take(item)
        finally:
            beats.cancel()

    async def _beat(self, wire: Wire) -> None:
        while wire.open:
            await self._thawed()
            state = AgentState.WORKING if self._work is not None else AgentState.IDLE
            wire.up(Beat(tuple(self._leases()), state))
            await asyncio.sleep(HEARTBEAT)

    def _leases(self) -> list[Lease]:
        return [self._work.lease] if self._work is not None else []

    def _finished(self) -> list[Lease]:
        return [frame.content.lease for frame in self._disk.journal.values() if isinstance(frame.content, HasEnded)]

    def _take(self, item: Any) -> None:
        match item:
            case Committed():
                for sequence in [number for number in self._disk.journal if number <= item.sequence]:
                    content = self._disk.journal.pop(sequence).content
                    if (claim := self._claims.pop(sequence, None)) is not None and not claim.done():
                        claim.set_result(sequence not in item.refused if item.certain else None)
                    if isinstance(content, HasEnded) and item.certain:
                        failure = content.result.failure
                        told = Told(content.lease, sequence not in item.refused, failure.kind if failure else None)
                        self._history.add(told)
            case ("assign", Task() as task):
                self._assigned(task)
            case ("cancel", Lease() as lease):
                if self._work is not None and self._work.lease == lease:
                    self._end(lease, FailureKind.CANCELLED)
            case ("revoke", leases):
                if self._work is not None and self._work.lease in leases:
                    self._work.running.cancel()
                    self._work = None

    def _assigned(self, task: Task) -> None:
        assert task.lease is not None
        if task.lease in self._given:
            return  # a repeat
        self._given.add(task.lease)
        if self._work is not None:
            self._post(HasEnded(task.lease, _result(task.lease, FailureKind.AGENT_LOST)))
            return
        running = self.process.start(self._do(task.lease, task), f"work on {task.id}")
        self._work = _Work(task.lease, running)

    async def _do(self, lease: Lease, task: Task) -> None:
        await self._fate.pause(0.1)
        self._post(HasStarted(lease, IsolationStatus(driver="process")))
        if task.budget.limited:
            await self._spend(lease, task.budget.tokens or 0)
        await asyncio.sleep(self._fate.delay(3.0))
        await self._thawed()
        if self._work is not None and self._work.lease == lease:
            self._work.running = asyncio.get_running_loop().create_future()  # type: ignore[assignment]  # it ends itself
            self._end(lease, self._fate.random.choice(OUTCOMES) if self._fate.faults else None)

    async def _spend(self, lease: Lease, budget: int) -> None:
        """Make calls: claim before, use all of it, tell of it with the next claim or at the end."""
        for _ in range(self._fate.random.randint(0, 3)):
            more = self._fate.random.randint(1, max(1, budget))
            if await self._claim(lease, more):
                self._used[lease] = self._used.get(lease, 0) + more
                self._history.add(Used(lease, more))
            await self._fate.pause(0.5)

    async def _claim(self, lease: Lease, more: int) -> bool:
        used = self._used.get(lease, 0)
        while True:
            self._post(HasClaimed(lease, _usage(used), Spent(tokens=used + more)))
            answer = self._claims[self._sequence] = asyncio.get_running_loop().create_future()
            if (granted := await answer) is not None:
                return granted

    def _end(self, lease: Lease, failure: FailureKind | None) -> None:
        assert self._work is not None
        self._work.running.cancel()
        self._work = None
        self._history.add(Ended(lease, self.agent.id, failure))
        self._post(HasEnded(lease, _result(lease, failure, self._used.get(lease, 0))))
        if self._wire is not None:
            self._wire.up(Beat((), AgentState.IDLE))

    def _post(self, content: Any) -> None:
        self._sequence += 1
        frame = self._disk.journal[self._sequence] = Numbered(self._sequence, content)
        if self._wire is not None:
            self._wire.up([frame])


def _usage(tokens: int) -> Usage:
    return Usage(wall_seconds=1.0 + tokens, input_tokens=tokens)


def _result(lease: Lease, failure: FailureKind | None, tokens: int = 0) -> Result:
    why = Failure(failure, f"it was {failure.value}") if failure else None
    return Result(summary=str(lease.epoch), failure=why, usage=_usage(tokens) if tokens else Usage())

"""Time that is up, told from time in which this process stood still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.task import Lease, Spec, State, Task
from controlplane.service.expiry import Expiry
from controlplane.service.leases import Held, Leases
from controlplane.service.timetable import Timetable


@dataclass
class Clock:
    """Jumps when it is told to."""

    time: float = 0.0
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        self.looked.set()
        return self.time


@dataclass
class Sessions:
    """Notes what is lost."""

    leases: Leases
    lost: list[Held] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def lose(self, held: Held, why: str) -> None:
        del why
        self.lost.append(held)
        self.leases.release_if(held)
        self.news.set()


def started() -> tuple[Clock, Leases, Sessions, Timetable, Expiry]:
    clock = Clock()
    leases, timetable = Leases(clock, 15.0), Timetable(clock)
    lease = Lease(TaskId("task_1"), 1, 1)
    leases.arm(
        Task(
            TaskId("task_1"),
            DEFAULT_TENANT,
            Spec(),
            State.RUNNING,
            "",
            0.0,
            "operator",
            lease=lease,
            agent_id=AgentId("agent-1"),
            incarnation=Incarnation("life-1"),
        )
    )
    sessions = Sessions(leases)
    expiry = Expiry(MemoryTaskStore(clock), None, sessions, leases, None, timetable, clock)  # type: ignore[arg-type]
    return clock, leases, sessions, timetable, expiry


async def test_a_lease_ends_when_its_time_is_up() -> None:
    clock, _, sessions, timetable, expiry = started()
    running = asyncio.create_task(expiry.run())
    await asyncio.sleep(0)
    clock.time = 15.1
    timetable.expect_lease()
    async with asyncio.timeout(5):
        await sessions.news.wait()
    running.cancel()
    assert len(sessions.lost) == 1


async def test_no_lease_ends_by_time_in_which_the_control_plane_stood_still() -> None:
    clock, leases, sessions, timetable, expiry = started()
    running = asyncio.create_task(expiry.run())
    await asyncio.sleep(0)
    clock.time = 60.0
    timetable.expect_lease()
    clock.looked.clear()
    async with asyncio.timeout(5):
        while leases.next_deadline() != 75.0:
            clock.looked.clear()
            await clock.looked.wait()
    await asyncio.sleep(0)
    running.cancel()
    assert sessions.lost == []

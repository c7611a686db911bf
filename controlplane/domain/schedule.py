"""When does a schedule submit a task, and what if the one before has not ended?"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from claude_conductor.ids import ScheduleId, TaskId, TenantId
from controlplane.domain import cron
from controlplane.domain.task import Spec, State, Task

KEPT_FIRINGS: Final = 10
LABEL: Final = "schedule"
"""Every task of a schedule has it, with the schedule's name."""


class Overlap(enum.Enum):
    """What happens when the task of an earlier firing has not ended. The names are those of the proto's OverlapRule."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class Outcome(enum.Enum):
    """What came of a firing. The names are those of the proto's FiringOutcome."""

    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Firing:
    """One time a schedule came due, or was told to run. Times in seconds since the epoch."""

    time: float
    """When it was to be."""
    at: float
    """When it was."""
    outcome: Outcome
    task_id: str = ""
    reason: str = ""
    """Why there is no task."""
    missed: int = 0
    """So many moments before it had passed while nobody looked; they are not made up for."""
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """A task that is submitted again and again. Times in seconds since the epoch."""

    id: ScheduleId
    tenant_id: TenantId
    name: str
    """What people call it; no two of a tenant have the same."""
    cron: str
    zone: str
    overlap: Overlap
    spec: Spec
    submitter: str
    create_time: float
    paused: bool = False
    next_time: float | None = None
    """The next firing; None: paused, or it never comes again."""
    last_task_id: str = ""
    firings: tuple[Firing, ...] = ()
    """The last ones, newest first."""
    version: int = 1
    """Grows by one with every saved change; what compare-and-set compares."""

    def following(self, others: tuple[TaskId, ...]) -> Spec:
        """Return its task, to begin when these have ended."""
        return replace(self.spec, follows=others)


@dataclass(frozen=True, slots=True)
class Due:
    """A firing whose time has come."""

    time: float
    missed: int
    following: float | None


@dataclass(frozen=True, slots=True)
class Move:
    """What a firing does."""

    submit: bool
    cancel: str = ""
    """The task that has to end first."""
    follows: tuple[TaskId, ...] = ()
    """Tasks that the new one waits for, whatever comes of them."""
    reason: str = ""
    """Why nothing is submitted."""


def due(schedule: Schedule, now: float) -> Due | None:
    """Return the firing that is due; None if there is none.

    Of several that were missed, the last one is caught up, and it knows how many there were.
    """
    if schedule.paused or schedule.next_time is None or schedule.next_time > now:
        return None
    time, missed = cron.latest(schedule.cron, schedule.zone, schedule.next_time, now)
    return Due(time, missed, cron.after(schedule.cron, schedule.zone, max(time, now)))


def move(overlap: Overlap, last: Task | None) -> Move:
    """Return what a firing does, given the last task of the schedule."""
    if last is None or last.state.final:
        return Move(submit=True)
    match overlap:
        case Overlap.SKIP:
            return Move(submit=False, reason=f"{last.id} has not ended")
        case Overlap.QUEUE:
            if last.state is State.BLOCKED and last.waits_for:
                return Move(submit=False, reason=f"{last.id} waits already")
            return Move(submit=True, follows=(last.id,))
        case Overlap.REPLACE:
            # One that waits for a task that is still being cancelled hands that wait on.
            return Move(submit=True, cancel=last.id, follows=(last.id, *sorted(last.waits_for)))


def request_id(schedule: Schedule, time: float) -> str:
    """Return the key of a firing: whoever submits it, and however often, there is one task."""
    return f"{schedule.id}/{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"


def recorded(schedule: Schedule, firing: Firing, following: float | None) -> Schedule:
    """Return the schedule after a firing; `following` counts unless it was paused or moved on meanwhile."""
    if firing.task_id and any(firing.task_id == other.task_id for other in schedule.firings):
        firings = schedule.firings
    else:
        firings = (firing, *schedule.firings)[:KEPT_FIRINGS]
    moved_on = firing.by_hand or schedule.next_time is None or schedule.next_time > firing.time
    return replace(
        schedule,
        firings=firings,
        last_task_id=firing.task_id or schedule.last_task_id,
        next_time=schedule.next_time if moved_on else following,
        version=schedule.version + 1,
    )


def paused(schedule: Schedule) -> Schedule:
    """Return the schedule, not to fire until it is resumed."""
    if schedule.paused:
        return schedule
    return replace(schedule, paused=True, next_time=None, version=schedule.version + 1)


def resumed(schedule: Schedule, now: float) -> Schedule:
    """Return the schedule, to fire again from now on; what it missed while it was paused is not made up for."""
    if not schedule.paused:
        return schedule
    following = cron.after(schedule.cron, schedule.zone, now)
    return replace(schedule, paused=False, next_time=following, version=schedule.version + 1)

"""What happens when the time of a schedule has come?"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import (
    ConductorError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InvalidArgumentError,
    ScheduleNotFoundError,
    StoreUnavailableError,
    TaskNotFoundError,
)
from claude_conductor.ids import TaskId
from controlplane.domain.events import Event
from controlplane.domain.schedule import LABEL, Due, Firing, Outcome, Schedule, due, move, recorded, request_id
from controlplane.domain.task import Task
from controlplane.interfaces.schedule_store import ScheduleStore
from controlplane.interfaces.task_store import REQUEST_SECONDS, TaskFilter, TaskStore
from controlplane.service.intake import Intake, Submission
from controlplane.service.pulse import wait
from controlplane.service.schedules import Schedules
from controlplane.service.tasks import CHILD_GRACE
from controlplane.service.watch import Watch

_log = logging.getLogger(__name__)
_PAGE: Final = 256
_LONGEST: Final = 60.0
"""A wall clock that jumped is noticed after this long."""
_STORE_PAUSE: Final = 0.5
_LOOKED_BACK: Final = 1000
"""Tasks of a schedule that are looked through for that of an old firing."""


class Scheduler:
    """Fires schedules. A firing is a submit under a key of its own, then a note in the schedule.

    Whatever dies in between, the next round finds the same firing due and gets the same task.
    """

    def __init__(
        self,
        store: ScheduleStore,
        schedules: Schedules,
        tasks: TaskStore,
        intake: Intake,
        watch: Watch,
        clock: Clock,
        changed: asyncio.Event,
    ) -> None:
        """Begin.

        Args:
            store: Where schedules live.
            schedules: Changes them.
            tasks: Says whether the task before has ended.
            intake: Takes tasks and cancels them.
            watch: Told of every firing.
            clock: The wall clock is meant: schedules name its hours.
            changed: Set when a schedule may be due earlier than was known.
        """
        self._store = store
        self._schedules = schedules
        self._tasks = tasks
        self._intake = intake
        self._watch = watch
        self._clock = clock
        self._changed = changed

    async def run(self) -> None:
        """Fire schedules for ever."""
        while True:
            self._changed.clear()
            try:
                await self.round()
                next_time = await self._store.next_time()
            except StoreUnavailableError as error:
                _log.warning("schedules wait for the store", extra={"cause": str(error)})
                await asyncio.sleep(_STORE_PAUSE)
                continue
            left = _LONGEST if next_time is None else min(_LONGEST, max(0.0, next_time - self._clock.now()))
            await wait(self._changed, left)

    async def round(self) -> None:
        """Fire what is due now.

        Raises:
            StoreUnavailableError: Something is still due; the next round fires it.
        """
        while found := await self._store.due(self._clock.now(), _PAGE):
            for schedule in found:
                await self._fire(schedule)

    async def _fire(self, schedule: Schedule) -> None:
        now = self._clock.now()
        try:
            moment = due(schedule, now)
        except InvalidArgumentError as error:  # its time zone was taken out of the database, for example
            await self._give_up(schedule, Firing(schedule.next_time or now, now, Outcome.REFUSED, reason=error.message))
            return
        if moment is None:
            return
        firing = await self._submit(schedule, moment, now)
        try:
            await self._schedules.change(
                schedule.tenant_id, schedule.id, lambda current: recorded(current, firing, moment.following)
            )
        except ScheduleNotFoundError:
            _log.info("a schedule was deleted while it fired", extra={"schedule": schedule.id})
        self._tell(schedule, firing)

    async def _give_up(self, schedule: Schedule, firing: Firing) -> None:
        """Note a firing whose schedule has no next one, and pause that."""
        try:
            await self._schedules.change(
                schedule.tenant_id, schedule.id, lambda current: recorded(replace(current, paused=True), firing, None)
            )
        except ScheduleNotFoundError:
            return
        self._tell(schedule, firing)

    async def _submit(self, schedule: Schedule, moment: Due, now: float) -> Firing:
        if earlier := await self._submitted_long_ago(schedule, moment, now):
            return Firing(moment.time, earlier.create_time, Outcome.SUBMITTED, earlier.id, missed=moment.missed)
        step = move(schedule.overlap, await self._last(schedule))
        if not step.submit:
            return Firing(moment.time, now, Outcome.SKIPPED, reason=step.reason, missed=moment.missed)
        key = request_id(schedule, moment.time)
        if step.cancel:
            await self._cancel(schedule, step.cancel)
        try:
            task_id = await self._take(schedule, key, step.follows)
        except StoreUnavailableError:
            raise
        except ConductorError as error:
            return Firing(moment.time, now, Outcome.REFUSED, reason=error.message, missed=moment.missed)
        return Firing(moment.time, now, Outcome.SUBMITTED, task_id, missed=moment.missed)

    async def _take(self, schedule: Schedule, key: str, follows: tuple[TaskId, ...]) -> str:
        spec = schedule.following(follows)
        try:
            return (await self._intake.submit(Submission(schedule.tenant_id, schedule.submitter, key, spec))).id
        except IdempotencyConflictError as error:
            # Submitted before a restart, when the task before it stood otherwise.
            return error.details["task_id"]

    async def _cancel(self, schedule: Schedule, task_id: str) -> None:
        try:
            await self._intake.cancel(
                schedule.tenant_id, task_id, f"replaced by the next task of the schedule {schedule.name}", CHILD_GRACE
            )
        except (IllegalTransitionError, TaskNotFoundError):
            _log.debug("it has ended meanwhile", extra={"task": task_id})

    async def _last(self, schedule: Schedule) -> Task | None:
        if not schedule.last_task_id:
            return None
        try:
            return await self._tasks.get(schedule.tenant_id, schedule.last_task_id)
        except TaskNotFoundError:  # ended so long ago that it is forgotten
            return None

    async def _submitted_long_ago(self, schedule: Schedule, moment: Due, now: float) -> Task | None:
        """Return the task of a firing that was submitted, but not noted, when its key may be forgotten by now."""
        if now - moment.time < REQUEST_SECONDS / 2:
            return None
        key, wanted = request_id(schedule, moment.time), TaskFilter(labels={LABEL: schedule.name})
        found = await self._tasks.list(schedule.tenant_id, wanted, "", _LOOKED_BACK)
        return next((task for task in found if task.request_id == key), None)

    def _tell(self, schedule: Schedule, firing: Firing) -> None:
        said = f"submitted {firing.task_id}" if firing.task_id else f"{firing.outcome.value}: {firing.reason}"
        summary = f"schedule {schedule.name} {said}"
        details = {"schedule": schedule.name, "schedule_id": schedule.id, "missed": str(firing.missed)}
        now = self._clock.now()
        kind = f"schedule.{firing.outcome.value}"
        self._watch.publish(Event(kind, now, summary, schedule.tenant_id, firing.task_id, details=details))

"""What happens when somebody creates, pauses, resumes, deletes or runs a schedule?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import InvalidArgumentError, ScheduleExistsError
from claude_conductor.ids import Mint, ScheduleId, TenantId, check_name
from controlplane.domain import cron
from controlplane.domain.schedule import LABEL, Firing, Outcome, Overlap, Schedule, paused, recorded, resumed
from controlplane.domain.task import Spec, Task
from controlplane.interfaces.schedule_store import ScheduleStore
from controlplane.service.intake import Intake, Submission

MOST_SCHEDULES: Final = 1000
"""Of one tenant."""
MAX_RUN_ID: Final = 64


class Schedules:
    """Keeps schedules; `Scheduler` fires them."""

    def __init__(self, store: ScheduleStore, intake: Intake, clock: Clock, mint: Mint, changed: asyncio.Event) -> None:
        """Begin.

        Args:
            store: Where schedules live.
            intake: Looks at their tasks, and takes them.
            clock: Says what the next firing is.
            mint: For ids of schedules and keys of runs.
            changed: Set when a schedule may be due earlier than was known.
        """
        self._store = store
        self._intake = intake
        self._clock = clock
        self._mint = mint
        self._changed = changed
        self._creating = asyncio.Lock()

    async def create(
        self, tenant_id: TenantId, submitter: str, name: str, expression: str, zone: str, overlap: Overlap, spec: Spec
    ) -> Schedule:
        """Store a schedule; return once it is durable. The same again returns the stored one.

        Raises:
            InvalidArgumentError: A value cannot be used; the message names the field.
            TaskNotFoundError: Its task names one that does not exist.
            ScheduleExistsError: Another one has this name.
            StoreUnavailableError: Nothing was stored, unless a repeat finds it.
        """
        check_name("schedule", name)
        _check_spec(spec)
        now = self._clock.now()
        cron.check(expression, zone, now)
        spec = replace(spec, labels={**spec.labels, LABEL: name})
        spec = await self._intake.examine(Submission(tenant_id, submitter, "", spec))
        schedule = Schedule(
            id=ScheduleId(self._mint("schedule_")),
            tenant_id=tenant_id,
            name=name,
            cron=expression.strip(),
            zone=zone,
            overlap=overlap,
            spec=spec,
            submitter=submitter,
            create_time=now,
            next_time=cron.after(expression, zone, now),
        )
        async with self._creating:
            if len(await self._store.list(tenant_id, "", MOST_SCHEDULES + 1)) > MOST_SCHEDULES:
                raise InvalidArgumentError(
                    f"There are {MOST_SCHEDULES} schedules already.",
                    next_step="delete one that nobody needs: `conductor schedules delete NAME`",
                )
            stored = await self._store.insert(schedule)
        if stored.id != schedule.id and _wish(stored) != _wish(schedule):
            raise ScheduleExistsError(schedule=name, schedule_id=stored.id)
        self._changed.set()
        return stored

    async def pause(self, tenant_id: TenantId, name: str) -> Schedule:
        """Let a schedule fire nothing until it is resumed.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        return await self.change(tenant_id, name, paused)

    async def resume(self, tenant_id: TenantId, name: str) -> Schedule:
        """Let a schedule fire again, from now on.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        now = self._clock.now()
        return await self.change(tenant_id, name, lambda schedule: resumed(schedule, now))

    async def delete(self, tenant_id: TenantId, name: str) -> Schedule:
        """Forget a schedule and return it; its tasks stay.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        schedule = await self._store.get(tenant_id, name)
        await self._store.remove(tenant_id, schedule.id)
        return schedule

    async def run(self, tenant_id: TenantId, name: str, request_id: str, traceparent: str) -> Task:
        """Submit the task of a schedule now; the same request id returns the same task.

        Raises:
            ScheduleNotFoundError: There is none.
            InvalidArgumentError, TaskNotFoundError, StoreUnavailableError: As `Intake.submit`.
        """
        if len(request_id) > MAX_RUN_ID:
            raise InvalidArgumentError(f"The request id of a run has at most {MAX_RUN_ID} characters.", field="request_id")
        schedule = await self._store.get(tenant_id, name)
        key = f"{schedule.id}/by-hand/{request_id or self._mint('')}"
        task = await self._intake.submit(Submission(tenant_id, schedule.submitter, key, schedule.spec, traceparent))
        firing = Firing(task.create_time, self._clock.now(), Outcome.SUBMITTED, task.id, by_hand=True)
        await self.change(tenant_id, schedule.id, lambda current: recorded(current, firing, None))
        return task

    async def change(self, tenant_id: TenantId, name: str, what: Callable[[Schedule], Schedule]) -> Schedule:
        """Replace a schedule by what is made of it, and return that; a save that lost to another one is tried again.

        Raises:
            ScheduleNotFoundError: There is none.
            StoreUnavailableError: A repeat is harmless.
        """
        while True:
            before = await self._store.get(tenant_id, name)
            after = what(before)
            if after is before or await self._store.save(after):
                self._changed.set()
                return after


def _wish(schedule: Schedule) -> tuple[object, ...]:
    """Return what its creator said; a template may have changed meanwhile."""
    return schedule.cron, schedule.zone, schedule.overlap, replace(schedule.spec, instructions="")


def _check_spec(spec: Spec) -> None:
    for wrong, field, message in (
        (spec.depends_on or spec.follows, "spec.depends_on", "The task of a schedule depends on no others."),
        (spec.fan_out, "spec.fan_out", "The task of a schedule is no group of subtasks."),
        (spec.parent_task_id, "spec.parent_task_id", "The task of a schedule has no parent."),
        (spec.not_before, "spec.not_before_time", "The task of a schedule starts when it fires; leave its time to start out."),
        (LABEL in spec.labels, "spec.labels", f"The label `{LABEL}` is the schedule's name; leave it out."),
    ):
        if wrong:
            raise InvalidArgumentError(message, field=field)

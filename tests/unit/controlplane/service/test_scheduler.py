"""Schedules fire once, whatever restarts; on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from claude_conductor.errors import (
    InvalidArgumentError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    StoreUnavailableError,
    TaskNotFoundError,
)
from claude_conductor.ids import DEFAULT_TENANT, TaskId
from controlplane.backends.memory.stores import open_memory
from controlplane.backends.sqlite.stores import open_sqlite
from controlplane.domain.events import Event
from controlplane.domain.schedule import Outcome, Overlap, Schedule
from controlplane.domain.task import Spec, State, Task
from controlplane.domain.task_machine import CancelRequested
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.schedule_store import ScheduleStore
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.task_store import TaskFilter
from controlplane.service.intake import Submission
from controlplane.service.scheduler import Scheduler
from controlplane.service.schedules import Schedules
from tests.contract.samples import HandClock
from tests.contract.task_services import Counting, Services
from tests.fakes.waiting import eventually

NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC).timestamp()
SPEC = Spec(driver="scripted", prompt="tidy up")


class Watched:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)


class Forgetful:
    """A schedule store that fails when a firing is noted, as often as it is told to."""

    def __init__(self, inner: ScheduleStore) -> None:
        self.inner = inner
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def save(self, schedule: Schedule) -> bool:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("the disk is full")
        return await self.inner.save(schedule)


class Life:
    """One life of the control plane's schedules."""

    def __init__(self, stores: Stores, clock: HandClock, counting: Counting) -> None:
        self.services = Services(stores.tasks, stores.agents, clock, counting)
        self.schedule_store = Forgetful(stores.schedules)
        self.changed, self.watched, self.clock, self.stores = asyncio.Event(), Watched(), clock, stores
        store: Any = self.schedule_store
        watch: Any = self.watched
        self.schedules = Schedules(store, self.services.intake, clock, counting.mint, self.changed)
        self.scheduler = Scheduler(store, self.schedules, stores.tasks, self.services.intake, watch, clock, self.changed)

    async def create(
        self, name: str = "nightly", cron: str = "* * * * *", overlap: Overlap = Overlap.SKIP, **more: Any
    ) -> Schedule:
        spec = replace(SPEC, **more)
        return await self.schedules.create(DEFAULT_TENANT, "operator", name, cron, "UTC", overlap, spec)

    async def tasks(self) -> list[Task]:
        return list(reversed(await self.stores.tasks.list(DEFAULT_TENANT, TaskFilter(), "", 1000)))

    async def end(self, task: Task) -> None:
        await self.services.tasks.change(DEFAULT_TENANT, task.id, CancelRequested("enough", 0.0, self.clock.now()))

    async def pass_(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        await self.scheduler.round()


class Beginning:
    """Makes lives on one pair of stores."""

    def __init__(self, stores: Stores, clock: HandClock) -> None:
        self.stores, self.clock, self.counting = stores, clock, Counting()

    def __call__(self) -> Life:
        return Life(self.stores, self.clock, self.counting)


@pytest.fixture(params=["memory", "sqlite"])
async def begin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Beginning]:
    clock, limits = HandClock(NOON), MailboxLimits()
    stores = open_memory(clock, limits) if request.param == "memory" else open_sqlite(tmp_path / "c.db", clock, limits)
    yield Beginning(stores, clock)
    await stores.close()


async def test_a_schedule_submits_its_task_when_its_time_has_come_and_once(begin: Beginning) -> None:
    life = begin()
    made = await life.create(labels={"team": "a"})
    await life.scheduler.round()
    assert await life.tasks() == []
    await life.pass_(30)
    await life.scheduler.round()
    (task,) = await life.tasks()
    assert (task.spec.prompt, task.submitter, task.state) == ("tidy up", "operator", State.QUEUED)
    assert task.spec.labels == {"team": "a", "schedule": "nightly"}
    assert task.request_id == f"{made.id}/2026-11-23T12:01:00Z"
    (firing,) = (await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")).firings
    assert (firing.outcome, firing.task_id, firing.missed) == (Outcome.SUBMITTED, task.id, 0)
    assert [event.type for event in life.watched.events] == ["schedule.submitted"]


async def test_a_control_plane_that_dies_between_submit_and_note_submits_no_second_one(begin: Beginning) -> None:
    life = begin()
    await life.create(overlap=Overlap.QUEUE)
    life.schedule_store.failures = 1
    with pytest.raises(StoreUnavailableError):
        await life.pass_(30)
    again = begin()
    await again.scheduler.round()
    (task,) = await again.tasks()
    assert (await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")).last_task_id == task.id


async def test_it_finds_the_unnoted_task_also_when_its_key_is_forgotten(begin: Beginning) -> None:
    life = begin()
    await life.create(cron="1 12 23 11 *")
    life.schedule_store.failures = 1
    with pytest.raises(StoreUnavailableError):
        await life.pass_(30)
    begin.clock.pass_(30 * 3600)
    again = begin()
    await again.scheduler.round()
    assert len(await again.tasks()) == 1


async def test_an_unnoted_firing_that_waits_for_the_one_before_is_the_same_when_that_has_ended(begin: Beginning) -> None:
    life = begin()
    await life.create(overlap=Overlap.QUEUE)
    await life.pass_(30)
    life.schedule_store.failures = 1
    with pytest.raises(StoreUnavailableError):
        await life.pass_(60)
    first, second = await life.tasks()
    await life.end(first)
    again = begin()
    await again.scheduler.round()
    assert len(await again.tasks()) == 2
    assert (await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")).last_task_id == second.id


async def test_of_what_was_missed_one_is_caught_up_and_says_how_many_there_were(begin: Beginning) -> None:
    await begin().create(cron="*/10 * * * *")
    begin.clock.pass_(3 * 3600)
    life = begin()
    await life.scheduler.round()
    (task,) = await life.tasks()
    assert task.request_id.endswith("/2026-11-23T15:00:00Z")
    schedule = await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")
    assert schedule.firings[0].missed == 17
    assert schedule.next_time == datetime(2026, 11, 23, 15, 10, tzinfo=UTC).timestamp()


async def test_skip_leaves_a_firing_out_while_a_task_goes_on(begin: Beginning) -> None:
    life = begin()
    await life.create()
    await life.pass_(30)
    await life.pass_(60)
    (task,) = await life.tasks()
    schedule = await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")
    assert (schedule.firings[0].outcome, schedule.firings[0].reason) == (Outcome.SKIPPED, f"{task.id} has not ended")
    await life.end(task)
    await life.pass_(60)
    assert len(await life.tasks()) == 2


async def test_queue_lets_one_task_wait_for_the_one_that_goes_on_whatever_comes_of_it(begin: Beginning) -> None:
    life = begin()
    await life.create(overlap=Overlap.QUEUE)
    await life.pass_(30)
    await life.pass_(60)
    await life.pass_(60)
    first, second = await life.tasks()
    assert (second.state, second.waits_for) == (State.BLOCKED, frozenset({first.id}))
    await life.end(first)
    assert (await life.tasks())[1].state is State.QUEUED


async def test_replace_cancels_the_task_that_goes_on(begin: Beginning) -> None:
    life = begin()
    await life.create(overlap=Overlap.REPLACE)
    await life.pass_(30)
    await life.pass_(60)
    first, second = await life.tasks()
    assert (first.state, first.reason) == (State.CANCELLED, "replaced by the next task of the schedule nightly")
    assert second.state is State.QUEUED


async def test_a_paused_schedule_fires_nothing_and_makes_up_for_nothing(begin: Beginning) -> None:
    life = begin()
    await life.create()
    await life.schedules.pause(DEFAULT_TENANT, "nightly")
    await life.pass_(3600)
    await life.schedules.resume(DEFAULT_TENANT, "nightly")
    assert await life.tasks() == []
    await life.pass_(60)
    assert len(await life.tasks()) == 1


async def test_run_now_submits_once_for_a_key_also_while_it_is_paused(begin: Beginning) -> None:
    life = begin()
    await life.create()
    await life.schedules.pause(DEFAULT_TENANT, "nightly")
    tasks = [await life.schedules.run(DEFAULT_TENANT, "nightly", "key", "") for _ in range(2)]
    assert tasks[0].id == tasks[1].id
    other = await life.schedules.run(DEFAULT_TENANT, "nightly", "", "")
    schedule = await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")
    assert [(firing.task_id, firing.by_hand) for firing in schedule.firings] == [(other.id, True), (tasks[0].id, True)]
    assert schedule.paused


async def test_a_deleted_schedule_fires_no_more_and_its_tasks_stay(begin: Beginning) -> None:
    life = begin()
    await life.create()
    await life.pass_(30)
    await life.schedules.delete(DEFAULT_TENANT, "nightly")
    await life.pass_(600)
    assert len(await life.tasks()) == 1
    with pytest.raises(ScheduleNotFoundError):
        await life.schedules.delete(DEFAULT_TENANT, "nightly")


async def test_a_task_that_is_refused_is_noted_and_the_schedule_goes_on(begin: Beginning) -> None:
    life = begin()
    made = await life.create()
    await begin.stores.schedules.save(replace(made, spec=replace(made.spec, priority=99), version=made.version + 1))
    await life.pass_(30)
    schedule = await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")
    assert (schedule.firings[0].outcome, schedule.firings[0].reason) == (Outcome.REFUSED, "A priority is 1 (last) to 10 (first).")
    assert schedule.next_time == NOON + 90
    assert [event.type for event in life.watched.events] == ["schedule.refused"]


async def test_a_zone_that_is_there_no_more_pauses_its_schedule(begin: Beginning) -> None:
    life = begin()
    made = await life.create()
    await begin.stores.schedules.save(replace(made, zone="Old/Land", version=made.version + 1))
    await life.pass_(30)
    schedule = await begin.stores.schedules.get(DEFAULT_TENANT, "nightly")
    assert (schedule.paused, schedule.next_time) == (True, None)
    assert schedule.firings[0].reason == "There is no such time zone."


async def test_the_same_again_is_the_stored_one_and_another_with_its_name_is_refused(begin: Beginning) -> None:
    life = begin()
    made = await life.create()
    assert (await life.create()).id == made.id
    with pytest.raises(ScheduleExistsError, match="nightly"):
        await life.create(cron="@daily")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"name": "Not a Name"}, "name"),
        ({"depends_on": ("task_1",)}, "spec.depends_on"),
        ({"parent_task_id": "task_1"}, "spec.parent_task_id"),
        ({"not_before": 1.0}, "spec.not_before_time"),
        ({"labels": {"schedule": "x"}}, "spec.labels"),
        ({"priority": 99}, "spec.priority"),
    ],
)
async def test_what_could_never_be_submitted_is_refused_and_nothing_is_stored(
    begin: Beginning, changes: dict[str, Any], field: str
) -> None:
    life = begin()
    with pytest.raises(InvalidArgumentError) as refused:
        await life.create(**changes)
    assert field in (refused.value.details.get("field"), *refused.value.details)
    assert list(await begin.stores.schedules.list(DEFAULT_TENANT, "", 9)) == []


async def test_the_loop_fires_at_its_time_and_hears_of_a_new_schedule(begin: Beginning) -> None:
    life = begin()
    running = asyncio.create_task(life.scheduler.run())
    try:
        await life.create()
        begin.clock.pass_(30)
        life.changed.set()
        await eventually(lambda: life.watched.events)
        assert len(await life.tasks()) == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_task_follows_only_tasks_that_are_there(begin: Beginning) -> None:
    life = begin()
    wrong = replace(SPEC, follows=(TaskId("task_unknown"),))
    with pytest.raises(TaskNotFoundError):
        await life.services.intake.submit(Submission(DEFAULT_TENANT, "operator", "", wrong))
    assert await life.tasks() == []

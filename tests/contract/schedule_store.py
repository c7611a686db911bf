"""What every ScheduleStore does. A backend's test class has this and gives the fixture `schedules`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from claude_conductor.errors import ScheduleNotFoundError
from claude_conductor.ids import DEFAULT_TENANT, ScheduleId
from controlplane.domain.schedule import Firing, Outcome, Overlap, Schedule
from controlplane.domain.task import Spec
from controlplane.interfaces.schedule_store import ScheduleStore
from tests.contract.samples import OTHER_TENANT, START


def schedule(name: str, **changes: Any) -> Schedule:
    made = Schedule(
        ScheduleId(f"schedule_{changes.get('tenant_id', '')}{name}"),
        DEFAULT_TENANT,
        name,
        "0 3 * * *",
        "Europe/Berlin",
        Overlap.QUEUE,
        Spec(prompt="tidy up", command=("true",), labels={"schedule": name}),
        "operator",
        START,
        next_time=START + 60,
    )
    return replace(made, **changes)


FIRED = (Firing(START, START + 0.25, Outcome.SUBMITTED, "task_1", missed=2), Firing(1.0, 2.0, Outcome.SKIPPED, reason="no"))


class ScheduleStoreContract:
    """All of it."""

    async def test_what_was_stored_is_read_whole_by_name_and_by_id(self, schedules: ScheduleStore) -> None:
        made = schedule("nightly", firings=FIRED, paused=True, next_time=None, last_task_id="task_1")
        assert await schedules.insert(made) == made
        assert await schedules.get(DEFAULT_TENANT, "nightly") == made
        assert await schedules.get(DEFAULT_TENANT, made.id) == made

    async def test_a_name_is_given_once_in_a_tenant_also_by_many_at_once(self, schedules: ScheduleStore) -> None:
        wanted = [schedule("nightly", id=ScheduleId(f"schedule_{number}")) for number in range(8)]
        answers = await asyncio.gather(*(schedules.insert(each) for each in wanted))
        assert len({answer.id for answer in answers}) == 1
        assert len(await schedules.list(DEFAULT_TENANT, "", 100)) == 1
        other = schedule("nightly", tenant_id=OTHER_TENANT)
        assert await schedules.insert(other) == other

    async def test_tenants_do_not_see_each_others(self, schedules: ScheduleStore) -> None:
        made = await schedules.insert(schedule("nightly", tenant_id=OTHER_TENANT))
        for name in ("nightly", made.id):
            with pytest.raises(ScheduleNotFoundError, match=name):
                await schedules.get(DEFAULT_TENANT, name)
        assert not await schedules.remove(DEFAULT_TENANT, made.id)
        assert await schedules.get(OTHER_TENANT, "nightly") == made

    async def test_a_save_replaces_the_version_before_it_and_no_other(self, schedules: ScheduleStore) -> None:
        made = await schedules.insert(schedule("nightly"))
        second = replace(made, version=2, next_time=START + 120, firings=FIRED)
        assert await schedules.save(second)
        assert not await schedules.save(replace(second, next_time=None))
        assert await schedules.get(DEFAULT_TENANT, "nightly") == second
        assert not await schedules.save(schedule("unknown", version=2))

    async def test_one_that_is_removed_is_gone_and_its_name_is_free(self, schedules: ScheduleStore) -> None:
        made = await schedules.insert(schedule("nightly"))
        assert await schedules.remove(DEFAULT_TENANT, made.id)
        assert not await schedules.remove(DEFAULT_TENANT, made.id)
        assert not await schedules.save(replace(made, version=2))
        assert await schedules.next_time() is None
        again = schedule("nightly", id=ScheduleId("schedule_again"))
        assert await schedules.insert(again) == again

    async def test_the_due_ones_come_earliest_first_over_all_tenants(self, schedules: ScheduleStore) -> None:
        assert await schedules.next_time() is None
        for name, time in (("c", 30.0), ("a", 10.0), ("b", 20.5), ("paused", None)):
            await schedules.insert(schedule(name, next_time=time, tenant_id=OTHER_TENANT if name == "a" else DEFAULT_TENANT))
        assert await schedules.next_time() == 10.0
        assert [each.name for each in await schedules.due(20.5, 9)] == ["a", "b"]
        assert [each.name for each in await schedules.due(99.0, 1)] == ["a"]
        assert list(await schedules.due(9.9, 9)) == []

    async def test_a_list_is_by_name_in_pages(self, schedules: ScheduleStore) -> None:
        for name in ("b", "d", "a", "c"):
            await schedules.insert(schedule(name))
        assert [each.name for each in await schedules.list(DEFAULT_TENANT, "", 3)] == ["a", "b", "c"]
        assert [each.name for each in await schedules.list(DEFAULT_TENANT, "c", 3)] == ["d"]

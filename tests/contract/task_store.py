"""What every TaskStore does. A backend's test class inherits this and gives the fixture `tasks`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from claude_conductor.errors import ConductorError, TaskNotFoundError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation
from controlplane.domain.landing import Landing, LandingState
from controlplane.domain.question import Answer, Question, QuestionKind, QuestionState
from controlplane.domain.task import (
    Attempt,
    Failure,
    FailureKind,
    IsolationLevel,
    IsolationStatus,
    Lease,
    ModelUsage,
    Result,
    Spec,
    State,
    Task,
    Usage,
    Workspace,
)
from controlplane.interfaces.task_store import TaskFilter, TaskStore
from tests.contract.samples import OTHER_TENANT, START, HandClock, task, task_id

EVERYTHING = TaskFilter()


class TaskStoreContract:
    async def test_an_inserted_task_comes_back_as_it_was(self, tasks: TaskStore) -> None:
        spent = Usage(wall_seconds=0.5, turns=2, models=(ModelUsage("m", 1, 2, 3, 4, 2, 0.25, 10),), unpriced_tokens=10)
        full = task(
            1,
            spec=Spec(
                prompt="Füge 'x' ein \x00 \U0001f600",
                command=("a", ""),
                environment={"A": "1"},
                workspace=Workspace("git", "https://example.org/x.git", "main"),
                timeout=0.25,
                isolation_level=IsolationLevel.MODERATE,
                labels={"k": "v"},
                priority=10,
                instructions="told",
            ),
            state=State.RUNNING,
            lease=Lease(task_id(1), 2, (1 << 64) - 1),
            agent_id=AgentId("agent-1"),
            incarnation=Incarnation("inc_1"),
            waits_for=frozenset({task_id(2), task_id(3)}),
            attempts=(Attempt(1, AgentId("a"), 1.5, None, 2.5, Failure(FailureKind.EXIT_CODE, "exit code 1"), spent),),
            result=Result(exit_code=0, rate_limited=0.0, isolation=IsolationStatus(mechanisms=("a", "b"))),
            start_time=0.1,
            cancel_reason="",
        )
        assert await tasks.insert(full) == full
        assert await tasks.get(DEFAULT_TENANT, full.id) == full

    async def test_a_question_and_its_answer_come_back_as_they_were(self, tasks: TaskStore) -> None:
        question = Question("q", "Grün?\x1b[2J", 2, 1.5, 61.5, QuestionKind.APPROVAL, ("approve", "deny"), raw="rm -rf \x00 'x'")
        asked = await tasks.insert(task(1, state=State.WAITING_FOR_HUMAN, question=question, state_time=1.5, limited_until=0.0))
        answer = Answer("operator", "no", 2, "request")
        closed = replace(question, state=QuestionState.ANSWERED, close_time=2.5, answer=answer)
        answered = replace(asked, question=closed, state=State.RATE_LIMITED, limited_why="429", version=2)
        assert await tasks.get(DEFAULT_TENANT, asked.id) == asked
        assert await tasks.save(answered)
        assert not await tasks.save(answered)  # a second answer loses
        assert await tasks.get(DEFAULT_TENANT, asked.id) == answered

    async def test_what_became_of_a_patch_comes_back_as_it_was(self, tasks: TaskStore) -> None:
        landing = Landing(LandingState.EVICTED, "main", "a" * 40, "grün", "<<<<\x00\x1b", "task_2", 2.5)
        ended = await tasks.insert(task(1, state=State.SUCCEEDED))
        assert await tasks.save(replace(ended, landing=landing, version=2))
        assert (await tasks.get(DEFAULT_TENANT, ended.id)).landing == landing

    async def test_the_same_request_returns_the_first_task(self, tasks: TaskStore) -> None:
        first = await tasks.insert(task(1, request_id="key"))
        assert await tasks.insert(task(2, request_id="key")) == first
        with pytest.raises(TaskNotFoundError):
            await tasks.get(DEFAULT_TENANT, task_id(2))

    async def test_a_repeated_request_returns_the_task_as_it_is_now(self, tasks: TaskStore) -> None:
        first = await tasks.insert(task(1, request_id="key"))
        moved = replace(first, state=State.SUCCEEDED, version=2)
        await tasks.save(moved)
        assert await tasks.insert(task(2, request_id="key")) == moved

    async def test_a_request_key_counts_per_tenant_and_submitter(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1, request_id="key"))
        for other in (task(2, request_id="key", tenant_id=OTHER_TENANT), task(3, request_id="key", submitter="task/x")):
            assert await tasks.insert(other) == other

    async def test_the_request_ids_of_agents_belong_to_the_task_they_work_on(self, tasks: TaskStore) -> None:
        """A parent that is tried again by another agent gets the child it has; another parent of that agent gets its own."""
        spec = Spec(prompt="child", parent_task_id=task_id(100))
        first = await tasks.insert(task(1, request_id="child-1", submitter="agent/a", spec=spec))
        assert await tasks.insert(task(2, request_id="child-1", submitter="agent/b", spec=spec)) == first
        other = task(3, request_id="child-1", submitter="agent/a", spec=replace(spec, parent_task_id=task_id(200)))
        assert await tasks.insert(other) == other
        operators = task(4, request_id="child-1", spec=spec)
        assert await tasks.insert(operators) == operators
        await tasks.remove([first.id])
        again = task(5, request_id="child-1", submitter="agent/b", spec=spec)
        assert await tasks.insert(again) == again

    async def test_an_empty_request_key_never_matches(self, tasks: TaskStore) -> None:
        assert await tasks.insert(task(1)) == task(1)
        assert await tasks.insert(task(2)) == task(2)

    async def test_a_request_key_is_forgotten_after_a_day(self, tasks: TaskStore, clock: HandClock) -> None:
        first = await tasks.insert(task(0, request_id="key"))
        clock.pass_(24 * 3600 - 1)
        assert await tasks.insert(task(1, request_id="key")) == first
        clock.pass_(1)
        later = task(2, request_id="key", create_time=clock.now())
        assert await tasks.insert(later) == later
        assert await tasks.insert(task(3, request_id="key")) == later

    async def test_fifty_inserts_at_once_with_one_key_make_one_task(self, tasks: TaskStore) -> None:
        stored = await asyncio.gather(*(tasks.insert(task(number, request_id="key")) for number in range(50)))
        assert len({one.id for one in stored}) == 1
        assert len(await tasks.list(DEFAULT_TENANT, EVERYTHING, "", 100)) == 1

    async def test_an_id_is_never_stored_twice(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1))
        with pytest.raises(ConductorError, match="stored already"):
            await tasks.insert(task(1, reason="another"))
        assert await tasks.get(DEFAULT_TENANT, task_id(1)) == task(1)

    async def test_a_task_is_found_by_the_beginning_of_its_id(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1))
        await tasks.insert(task(2))
        assert (await tasks.get(DEFAULT_TENANT, task_id(1)[:13])).id == task_id(1)

    async def test_a_beginning_that_is_too_short_or_fits_several_finds_nothing(self, tasks: TaskStore) -> None:
        twin = task(2, id=task_id(1)[:-1] + ("0" if task_id(1)[-1] != "0" else "1"))
        await tasks.insert(task(1))
        with pytest.raises(TaskNotFoundError):
            await tasks.get(DEFAULT_TENANT, task_id(1)[:12])
        await tasks.insert(twin)
        with pytest.raises(TaskNotFoundError, match=task_id(1)):
            await tasks.get(DEFAULT_TENANT, task_id(1)[:13])
        assert await tasks.get(DEFAULT_TENANT, twin.id) == twin

    @pytest.mark.parametrize("unknown", ["", "task_", "task_%%%%%%%%%", "task_0000000000000", "é" * 20, "\U0010ffff" * 13])
    async def test_an_unknown_id_is_an_error(self, tasks: TaskStore, unknown: str) -> None:
        await tasks.insert(task(1))
        with pytest.raises(TaskNotFoundError):
            await tasks.get(DEFAULT_TENANT, unknown)

    async def test_a_task_of_another_tenant_is_unknown(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1))
        for name in (task_id(1), task_id(1)[:13]):
            with pytest.raises(TaskNotFoundError):
                await tasks.get(OTHER_TENANT, name)

    async def test_only_the_next_version_is_saved(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1))
        for version in (0, 1, 3):
            assert not await tasks.save(task(1, version=version, reason="lost"))
        assert await tasks.save(task(1, version=2, reason="won"))
        assert (await tasks.get(DEFAULT_TENANT, task_id(1))).reason == "won"

    async def test_an_unknown_task_is_not_saved(self, tasks: TaskStore) -> None:
        assert not await tasks.save(task(1, version=2))

    async def test_of_twenty_saves_of_one_version_exactly_one_wins(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1))
        won = await asyncio.gather(*(tasks.save(task(1, version=2, reason=str(number))) for number in range(20)))
        assert won.count(True) == 1
        assert (await tasks.get(DEFAULT_TENANT, task_id(1))).reason == str(won.index(True))

    async def test_ready_tasks_come_by_priority_then_age_then_id(self, tasks: TaskStore) -> None:
        for one in (
            task(1, queue_time=START),
            task(2, queue_time=START - 301, spec=Spec(priority=1)),
            task(3, queue_time=START - 299, spec=Spec(priority=1)),
            task(4, queue_time=START + 10, spec=Spec(priority=10)),
            task(5, queue_time=START, tenant_id=OTHER_TENANT),
            task(6, state=State.LEASED),
            task(7, state=State.BLOCKED),
        ):
            await tasks.insert(one)
        # A step of priority is worth 60 s: 2 waited 301 s with four steps less (240 s), so it goes before 1.
        order = [one.id for one in await tasks.ready(10)]
        assert order == [task_id(number) for number in (4, 2, 3, 1, 5)]
        assert [one.id for one in await tasks.ready(2)] == order[:2]  # they are all of one lane

    async def test_of_every_lane_the_first_few_are_ready(self, tasks: TaskStore) -> None:
        for number in range(6):
            await tasks.insert(task(number, lane="long"))
        await tasks.insert(task(7, lane="short"))
        await tasks.insert(task(8, lane="short", tenant_id=OTHER_TENANT, queue_time=START - 99))
        await tasks.insert(task(9, lane="left", state=State.LEASED))
        assert [one.id for one in await tasks.ready(1)] == [task_id(8), task_id(0)]
        assert [one.id for one in await tasks.ready(2)] == [task_id(number) for number in (8, 0, 1, 7)]
        assert len(await tasks.ready(100)) == 8

    async def test_ten_thousand_tasks_of_one_lane_hide_no_other(self, tasks: TaskStore) -> None:
        for first in range(0, 10_000, 500):
            await asyncio.gather(*(tasks.insert(task(number, lane="a")) for number in range(first, first + 500)))
        last = await tasks.insert(task(10_001, lane="b"))
        assert list(await tasks.ready(1)) == [task(0, lane="a"), last]

    async def test_a_task_that_changes_its_lane_is_ready_in_the_new_one(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1, lane="a"))
        await tasks.insert(task(2, lane="a"))
        assert await tasks.save(task(1, lane="b", version=2))
        assert [one.id for one in await tasks.ready(1)] == [task_id(1), task_id(2)]

    async def test_the_tasks_ahead_of_one_are_those_of_its_tenant_that_go_first(self, tasks: TaskStore) -> None:
        for one in (
            task(1, lane="a"),
            task(2, lane="b"),
            task(3, lane="a"),
            task(4, lane="a", spec=Spec(priority=10)),
            task(5, lane="a", queue_time=START, tenant_id=OTHER_TENANT),
            task(6, lane="a", queue_time=START, state=State.BLOCKED),
            task(7, lane="b", queue_time=START + 3),
        ):
            await tasks.insert(one)
        assert [await tasks.ahead(task(number, lane="a")) for number in (1, 3)] == [1, 3]
        assert await tasks.ahead(task(4, spec=Spec(priority=10))) == 0
        assert await tasks.ahead(task(7, lane="b", queue_time=START + 3)) == 4

    async def test_a_task_that_left_the_queue_is_not_ready_and_one_that_returned_is(self, tasks: TaskStore) -> None:
        await tasks.insert(task(1))
        await tasks.save(task(1, version=2, state=State.LEASED))
        assert await tasks.ready(10) == []
        back = task(1, version=3, queue_time=START + 99)
        await tasks.save(back)
        assert list(await tasks.ready(10)) == [back]

    async def test_due_tasks_are_blocked_wait_for_nobody_and_their_time_has_come(self, tasks: TaskStore) -> None:
        for one in (
            task(1, state=State.BLOCKED, not_before=START + 5),
            task(2, state=State.BLOCKED, not_before=START + 6),
            task(3, state=State.BLOCKED, not_before=START, waits_for=frozenset({task_id(9)})),
            task(4, state=State.QUEUED, not_before=START),
            task(5, state=State.BLOCKED, not_before=START - 5),
        ):
            await tasks.insert(one)
        assert [one.id for one in await tasks.due(START + 5, 10)] == [task_id(5), task_id(1)]
        assert [one.id for one in await tasks.due(START + 99, 1)] == [task_id(5)]

    async def test_a_task_whose_dependencies_are_over_becomes_due(self, tasks: TaskStore) -> None:
        await tasks.insert(task(3, state=State.BLOCKED, waits_for=frozenset({task_id(9)})))
        await tasks.save(task(3, state=State.BLOCKED, version=2))
        assert [one.id for one in await tasks.due(START, 10)] == [task_id(3)]

    async def test_tasks_in_states_come_from_all_tenants_oldest_first(self, tasks: TaskStore) -> None:
        for one in (
            task(1, state=State.RUNNING, create_time=START + 9),
            task(2, state=State.LEASED),
            task(3, state=State.SUCCEEDED),
            task(4, state=State.RUNNING, tenant_id=OTHER_TENANT, create_time=START),
        ):
            await tasks.insert(one)
        wanted = frozenset({State.RUNNING, State.LEASED})
        assert [one.id for one in await tasks.in_states(wanted)] == [task_id(4), task_id(2), task_id(1)]
        assert await tasks.in_states(frozenset()) == []

    async def test_only_tasks_that_ended_before_a_time_are_found_by_it(self, tasks: TaskStore) -> None:
        for number, state, end in (
            (1, State.SUCCEEDED, START + 10),
            (2, State.FAILED, START + 30),  # created before, ended after
            (3, State.RUNNING, None),
            (4, State.CANCELLED, START + 19.9),
            (5, State.SUCCEEDED, START + 5),
        ):
            tenant = OTHER_TENANT if number == 5 else DEFAULT_TENANT
            await tasks.insert(task(number, state=state, end_time=end, create_time=START + number, tenant_id=tenant))
        assert [found.id for found in await tasks.ended_before(START + 20, 10)] == [task_id(1), task_id(4), task_id(5)]
        assert [found.id for found in await tasks.ended_before(START + 20, 2)] == [task_id(1), task_id(4)]
        assert await tasks.ended_before(START, 10) == []

    async def test_a_removed_task_is_gone_with_its_request(self, tasks: TaskStore) -> None:
        first = await tasks.insert(task(1, request_id="key", state=State.SUCCEEDED, end_time=START))
        kept = await tasks.insert(task(2, state=State.SUCCEEDED, end_time=START))
        await tasks.remove([first.id, task_id(9)])
        await tasks.remove([first.id])
        with pytest.raises(TaskNotFoundError):
            await tasks.get(DEFAULT_TENANT, first.id)
        assert [found.id for found in await tasks.list(DEFAULT_TENANT, EVERYTHING, "", 10)] == [kept.id]
        assert await tasks.in_states(frozenset({State.SUCCEEDED})) == [kept]
        again = task(3, request_id="key")
        assert await tasks.insert(again) == again

    async def test_a_dependency_knows_who_waits_for_it(self, tasks: TaskStore) -> None:
        waiting = {"state": State.BLOCKED, "waits_for": frozenset({task_id(8), task_id(9)})}
        await tasks.insert(task(1, **waiting))
        await tasks.insert(task(2, **waiting))
        assert [one.id for one in await tasks.waiting_for(task_id(8))] == [task_id(1), task_id(2)]
        await tasks.save(task(1, state=State.BLOCKED, waits_for=frozenset({task_id(9)}), version=2))
        await tasks.save(task(2, state=State.CANCELLED, version=2))
        assert await tasks.waiting_for(task_id(8)) == []
        assert [one.id for one in await tasks.waiting_for(task_id(9))] == [task_id(1)]

    async def test_tasks_are_listed_newest_first_in_pages(self, tasks: TaskStore) -> None:
        for number in (3, 1, 2, 5, 4):
            await tasks.insert(task(number))
        await tasks.insert(task(6, tenant_id=OTHER_TENANT))
        seen: list[Task] = []
        while page := await tasks.list(DEFAULT_TENANT, EVERYTHING, seen[-1].id if seen else "", 2):
            assert len(page) <= 2
            seen.extend(page)
        assert [one.id for one in seen] == [task_id(number) for number in (5, 4, 3, 2, 1)]

    async def test_a_list_filters_by_state_parent_and_all_labels(self, tasks: TaskStore) -> None:
        labelled = Spec(labels={"team": "a", "size": "s"}, parent_task_id=task_id(1))
        await tasks.insert(task(1))
        await tasks.insert(task(2, spec=labelled))
        await tasks.insert(task(3, spec=labelled, state=State.FAILED))
        await tasks.insert(task(4, spec=Spec(labels={"team": "a"})))

        async def listed(wanted: TaskFilter) -> list[int]:
            return [int(one.create_time - START) for one in await tasks.list(DEFAULT_TENANT, wanted, "", 10)]

        assert await listed(TaskFilter(states=frozenset({State.FAILED, State.DEAD}))) == [3]
        assert await listed(TaskFilter(parent_task_id=task_id(1))) == [3, 2]
        assert await listed(TaskFilter(labels={"team": "a"})) == [4, 3, 2]
        assert await listed(TaskFilter(labels={"team": "a", "size": "s"}, states=frozenset({State.QUEUED}))) == [2]
        assert await listed(TaskFilter(labels={"team": ""})) == []

    async def test_a_list_leaves_out_what_ended_before_a_time(self, tasks: TaskStore) -> None:
        for number, end in ((1, None), (2, 10.0), (3, 20.0), (4, 20.5)):
            spec = Spec(labels={"n": "odd" if number % 2 else "even"})
            await tasks.insert(task(number, spec=spec, state=State.SUCCEEDED if end else State.QUEUED, end_time=end))

        async def listed(wanted: TaskFilter, after: str = "", limit: int = 10) -> list[int]:
            return [int(one.create_time - START) for one in await tasks.list(DEFAULT_TENANT, wanted, after, limit)]

        assert await listed(TaskFilter(active_since=20.0)) == [4, 3, 1]
        assert await listed(TaskFilter(active_since=20.0), limit=2) == [4, 3]
        assert await listed(TaskFilter(active_since=20.0), after=task_id(3)) == [1]
        assert await listed(TaskFilter(active_since=30.0)) == [1]
        assert await listed(TaskFilter(active_since=20.4999996)) == [4, 1]
        assert await listed(TaskFilter(active_since=20.5000004)) == [4, 1], "a time that travelled is rounded to microseconds"
        assert await listed(TaskFilter(active_since=20.500001)) == [1]
        assert await listed(TaskFilter(labels={"n": "odd"}, active_since=15.0)) == [3, 1]

    async def test_a_call_that_was_cancelled_leaves_the_store_usable(self, tasks: TaskStore) -> None:
        calls = [asyncio.ensure_future(tasks.insert(task(number))) for number in range(20)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert {one.id for one in await tasks.ready(100)} >= {task_id(number) for number in range(1, 20, 2)}


class ManyTasksContract:
    """What every TaskStore does with many tasks at once, and with changes whose callers went away."""

    async def test_tasks_inserted_together_come_back_as_they_were(self, tasks: TaskStore) -> None:
        some = [task(number, request_id=f"key-{number}" if number % 2 else "") for number in range(5)]
        some.append(task(9, state=State.BLOCKED, waits_for=frozenset({task_id(1)})))
        assert await tasks.insert_all(some) == {}
        assert [await tasks.get(DEFAULT_TENANT, each.id) for each in some] == some
        assert await tasks.waiting_for(task_id(1)) == [some[-1]]
        assert await tasks.insert(task(7, request_id="key-3")) == some[3]

    async def test_if_one_request_was_made_before_nothing_is_stored(self, tasks: TaskStore) -> None:
        first = await tasks.insert(task(1, request_id="key"))
        moved = replace(first, reason="moved", version=2)
        await tasks.save(moved)
        assert await tasks.insert_all([task(2), task(3, request_id="key"), task(4, request_id="another")]) == {1: moved}
        for number in (2, 3, 4):
            with pytest.raises(TaskNotFoundError):
                await tasks.get(DEFAULT_TENANT, task_id(number))
        assert await tasks.insert_all([task(2), task(4, request_id="another")]) == {}

    async def test_if_one_id_is_there_already_nothing_is_stored(self, tasks: TaskStore) -> None:
        await tasks.insert(task(2))
        with pytest.raises(ConductorError):
            await tasks.insert_all([task(1, request_id="key"), task(2), task(3)])
        with pytest.raises(TaskNotFoundError):
            await tasks.get(DEFAULT_TENANT, task_id(1))
        assert await tasks.insert_all([task(4, request_id="key")]) == {}

    async def test_the_same_requests_from_several_clients_at_once_make_each_task_once(self, tasks: TaskStore) -> None:
        async def client(number: int) -> dict[int, Task]:
            mine = [task(100 * number + place, request_id=f"key-{place}") for place in range(10)]
            return dict(await tasks.insert_all(mine))

        found = await asyncio.gather(*(client(number) for number in range(1, 6)))
        (winner,) = (number for number, earlier in enumerate(found, 1) if not earlier)
        for earlier in found:
            assert not earlier or [earlier[place].id for place in range(10)] == [
                task_id(100 * winner + place) for place in range(10)
            ]
        assert len(await tasks.list(DEFAULT_TENANT, EVERYTHING, "", 100)) == 10

    async def test_no_tasks_are_none(self, tasks: TaskStore) -> None:
        assert await tasks.insert_all([]) == {}

    async def test_a_change_whose_caller_went_away_is_seen_by_everybody(self, tasks: TaskStore) -> None:
        first = await tasks.insert(task(1))
        saving = asyncio.create_task(tasks.save(replace(first, reason="moved", version=2)))
        await asyncio.sleep(0)
        saving.cancel()
        await tasks.insert(task(2))  # behind it
        assert (await tasks.get(DEFAULT_TENANT, first.id)).reason == "moved"
        assert [each.reason for each in await tasks.list(DEFAULT_TENANT, EVERYTHING, task_id(2), 10)] == ["moved"]

    async def test_what_was_refused_or_removed_is_seen_by_nobody(self, tasks: TaskStore) -> None:
        first = await tasks.insert(task(1))
        assert not await tasks.save(replace(first, reason="too late", version=7))
        assert await tasks.get(DEFAULT_TENANT, first.id) == first
        await tasks.remove([first.id])
        with pytest.raises(TaskNotFoundError):
            await tasks.get(DEFAULT_TENANT, first.id)
        assert not await tasks.save(replace(first, version=2))
        with pytest.raises(TaskNotFoundError):
            await tasks.get(DEFAULT_TENANT, first.id)

"""Several tasks are stored together or not at all, wait for each other as asked, and each request makes its tasks once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from claude_conductor.clock import SystemClock, SystemMint
from claude_conductor.errors import IdempotencyConflictError, InvalidArgumentError, TaskNotFoundError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from claude_conductor.telemetry.traces import PassingTracer
from controlplane.api.session.writer import Writer
from controlplane.app import Parts, build, open_stores
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.agent import Agent
from controlplane.domain.agent import State as AgentState
from controlplane.domain.caps import Caps
from controlplane.domain.task import FanOut, IsolationStatus, Lease, OnFailure, Result, Spec, State, Task
from controlplane.domain.task_machine import CancelRequested, Completed, Leased, Started
from controlplane.interfaces.task_store import TaskFilter
from controlplane.service.intake import Intake, Submission, Wanted
from controlplane.service.recovery import recover
from controlplane.service.work import Work
from controlplane.settings import Settings


class Store(MemoryTaskStore):
    """Counts looks for tasks that wait, and into the queue."""

    looks = 0
    heads = 0

    async def ready(self, each: int) -> Sequence[Task]:
        self.heads += 1
        return await super().ready(each)

    async def waiting_for(self, task_id: TaskId) -> Sequence[Task]:
        self.looks += 1
        return await super().waiting_for(task_id)


@dataclass
class Plane:
    """What takes tasks, without its door."""

    parts: Parts
    store: Store
    intake: Intake

    async def task(self, task_id: str) -> Task:
        return await self.store.get(DEFAULT_TENANT, task_id)

    async def all(self) -> Sequence[Task]:
        return await self.store.list(DEFAULT_TENANT, TaskFilter(), "", 100)

    async def finish(self, task_id: TaskId) -> None:
        lease = Lease(task_id, 1, 7)
        at = 5.0
        for event in (
            Leased(lease, AgentId("agent-1"), Incarnation("life"), at),
            Started(lease, IsolationStatus(), at),
            Completed(lease, Result(exit_code=0), at, 0.0),
        ):
            await self.parts.tasks.change(DEFAULT_TENANT, task_id, event)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    clock = SystemClock()
    store = Store(clock)
    settings = Settings(home=tmp_path, store="memory", operator_token_sha256="")
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        stores = replace(await open_stores(settings, clock), tasks=store)
        parts = build(settings, stores, OutputDirectory(tmp_path / "output", 1 << 20), work, clock, PassingTracer())
        yield Plane(parts, store, Intake(store, parts.tasks, clock, SystemMint(clock), 1000, work, Caps()))
        work.cancel()


def wanted(command: str, *after: int, key: str = "", depends_on: tuple[TaskId, ...] = ()) -> Wanted:
    spec = Spec(driver="command", command=(command,), depends_on=depends_on)
    return Wanted(Submission(DEFAULT_TENANT, "operator", key, spec), after)


async def test_tasks_are_stored_in_order_and_wait_for_those_they_come_after(plane: Plane) -> None:
    first, second, third = await plane.intake.submit_all([wanted("a"), wanted("b", 0), wanted("c", 0, 1)])
    assert (await plane.task(first)).state is State.QUEUED
    assert (await plane.task(second)).waits_for == {first}
    assert (await plane.task(third)).spec.depends_on == (first, second)
    await plane.finish(first)
    await plane.finish(second)
    assert (await plane.task(third)).state is State.QUEUED


async def test_one_that_is_refused_keeps_all_of_them_out_and_is_named(plane: Plane) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await plane.intake.submit_all([wanted("a"), wanted("b"), Wanted(replace(wanted("c").submission, spec=Spec(timeout=-1)))])
    assert refused.value.details["task"] == "2"
    with pytest.raises(TaskNotFoundError) as unknown:
        await plane.intake.submit_all([wanted("a"), wanted("b", depends_on=(TaskId("task_nobody"),))])
    assert unknown.value.details["task"] == "1"
    assert not await plane.all()


async def test_the_same_request_again_is_the_same_tasks_also_where_it_grew(plane: Plane) -> None:
    ask = [wanted("a", key="1"), wanted("b", 0, key="2")]
    first = await plane.intake.submit_all(ask)
    assert await plane.intake.submit_all(ask) == first
    *again, new = await plane.intake.submit_all([*ask, wanted("c", 1, key="3")])
    assert again == first
    assert (await plane.task(new)).waits_for == {first[1]}
    assert len(await plane.all()) == 3


async def test_a_key_of_another_task_is_a_conflict_and_nothing_is_stored(plane: Plane) -> None:
    await plane.intake.submit_all([wanted("a", key="1")])
    with pytest.raises(IdempotencyConflictError) as conflict:
        await plane.intake.submit_all([wanted("new"), wanted("b", key="1")])
    assert conflict.value.details["task"] == "1"
    with pytest.raises(InvalidArgumentError):
        await plane.intake.submit_all([wanted("x", key="2"), wanted("x", key="2")])
    assert len(await plane.all()) == 1


async def test_the_same_tasks_from_several_clients_at_once_are_stored_once(plane: Plane) -> None:
    ask = [wanted(str(number), *range(max(0, number - 1), number), key=f"k{number}") for number in range(70)]
    found = await asyncio.gather(*(plane.intake.submit_all(ask) for _ in range(5)))
    assert all(each == found[0] for each in found)
    assert len(await plane.all()) == 70


async def test_a_task_that_comes_after_one_that_ended_is_told_so(plane: Plane) -> None:
    (done, failed) = await plane.intake.submit_all([wanted("a", key="1"), wanted("b", key="2")])
    await plane.finish(done)
    await plane.parts.tasks.change(DEFAULT_TENANT, failed, CancelRequested("not needed", 1.0, 1.0))
    ask = [wanted("a", key="1"), wanted("b", key="2"), wanted("c", 0), wanted("d", 1)]
    _, _, after_done, after_failed = await plane.intake.submit_all(ask)
    assert (await plane.task(after_done)).state is State.QUEUED
    assert (await plane.task(after_failed)).state is State.FAILED


async def test_the_end_of_a_task_nobody_waits_for_costs_no_look_into_the_store(plane: Plane) -> None:
    alone, awaited, _ = await plane.intake.submit_all([wanted("a"), wanted("b"), wanted("c", 1)])
    await plane.finish(alone)
    assert plane.store.looks == 0
    await plane.finish(awaited)
    assert plane.store.looks == 1


async def test_a_free_agent_looks_into_the_queue_only_if_somebody_is_in_it(plane: Plane) -> None:
    agent = Agent(
        id=AgentId("agent-1"),
        tenant_id=DEFAULT_TENANT,
        incarnation=Incarnation("life"),
        state=AgentState.IDLE,
        state_time=0.0,
        state_reason="",
        drivers=("scripted",),
    )
    (await plane.parts.registry.connect(agent, Writer(lambda _: None), occupied=False)).ready = True
    await plane.parts.dispatch.round()
    assert plane.store.heads == 0
    await plane.intake.submit_all([wanted("a")])  # not for this agent
    await plane.parts.dispatch.round()
    assert plane.store.heads == 1


def grouped(parallel: int = 0, *after: int, key: str = "", on_failure: OnFailure = OnFailure.FINISH) -> Wanted:
    spec = Spec(prompt="all of it", fan_out=FanOut(parallel, on_failure))
    return Wanted(Submission(DEFAULT_TENANT, "operator", key, spec), after)


def part(command: str, group: int, *after: int, key: str = "") -> Wanted:
    return replace(wanted(command, *after, key=key), within=group)


async def test_a_group_and_its_subtasks_are_stored_together_and_it_ends_with_the_last(plane: Plane) -> None:
    ask = [wanted("before"), grouped(1, 0), part("a", 1), part("b", 1, 2), wanted("then", 1)]
    before, group, first, second, then = await plane.intake.submit_all(ask)
    stored = await plane.task(group)
    assert (stored.state, stored.waits_for) == (State.BLOCKED, {first, second})
    child = await plane.task(second)
    assert (child.spec.parent_task_id, child.spec.depends_on, child.parallel) == (group, (before, first), 1)
    for task_id in (before, first, second):
        assert (await plane.task(then)).state is State.BLOCKED
        await plane.finish(task_id)
    assert (await plane.task(group)).state is State.SUCCEEDED
    assert (await plane.task(then)).state is State.QUEUED


async def test_the_first_failure_stops_the_subtasks_that_go_on(plane: Plane) -> None:
    group, first, second = await plane.intake.submit_all([grouped(on_failure=OnFailure.STOP), part("a", 0), part("b", 0)])
    await plane.intake.cancel(DEFAULT_TENANT, first, "not this one", 1.0)
    stopped = await plane.task(second)
    assert (stopped.state, stopped.reason) == (
        State.CANCELLED,
        f"subtask {first} did not succeed, which stops the others of its group",
    )
    assert (await plane.task(group)).state is State.FAILED


async def test_a_restart_cancels_what_a_failure_did_not_get_to(plane: Plane) -> None:
    group, first, second = await plane.intake.submit_all([grouped(on_failure=OnFailure.STOP), part("a", 0), part("b", 0)])
    stored = await plane.task(group)
    parts = (replace(stored.parts[0], state=State.FAILED), *stored.parts[1:])
    assert await plane.store.save(replace(stored, parts=parts, waits_for=frozenset({second}), version=stored.version + 1))
    assert (await plane.task(second)).state is State.QUEUED
    await recover(plane.store, plane.parts.tasks, plane.parts.registry, plane.parts.relay, plane.parts.clock, Caps())
    assert (await plane.task(second)).reason.startswith(f"subtask {first} did not succeed")
    assert (await plane.task(group)).state is State.FAILED


async def test_the_end_of_a_group_ends_its_subtasks(plane: Plane) -> None:
    group, first = await plane.intake.submit_all([grouped(), part("a", 0)])
    await plane.intake.cancel(DEFAULT_TENANT, group, "enough", 1.0)
    assert (await plane.task(first)).reason == "its parent was cancelled: enough"


async def test_a_group_is_made_once_and_cannot_grow(plane: Plane) -> None:
    ask = [grouped(key="g"), part("a", 0, key="a"), part("b", 0, key="b")]
    first = await plane.intake.submit_all(ask)
    assert await plane.intake.submit_all(ask) == first
    for changed in ([*ask, part("c", 0, key="c")], ask[:2], [grouped(key="other"), *ask[1:]], [grouped(3, key="g"), *ask[1:]]):
        with pytest.raises(IdempotencyConflictError):
            await plane.intake.submit_all(changed)
    assert len(await plane.all()) == 3


async def test_a_group_alone_and_wrong_groups_leave_nothing_behind(plane: Plane) -> None:
    with pytest.raises(InvalidArgumentError, match="together with its subtasks"):
        await plane.intake.submit(grouped().submission)
    for ask in ([grouped()], [grouped(), part("a", 0, 0)], [grouped(), part("a", 0), part("b", 5)]):
        with pytest.raises(InvalidArgumentError):
            await plane.intake.submit_all(ask)
    assert not await plane.all()

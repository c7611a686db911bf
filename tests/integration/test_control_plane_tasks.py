"""Tasks through a real control plane process: from submission to result, retries, cancels and restarts."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest

from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import agent_pb2, agent_service_pb2, event_pb2, event_service_pb2, task_pb2, task_service_pb2
from claude_conductor.v1 import session_service_pb2 as session_pb
from tests.fakes.control_plane import ControlPlane, Operator, sidecar_token
from tests.fakes.sidecar import Sidecar


async def test_a_task_goes_from_submission_to_result(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    agent: Sidecar = await sidecar("agent-1")
    task = await operator.submit(command=["true"])
    assignment = await agent.next_assignment()
    assert assignment.lease.task_id == task.task_id
    assert assignment.mailbox == f"task/{task.task_id}"
    assert assignment.spec.timeout.seconds == 3600
    await agent.started(assignment)
    await operator.until(task.task_id, task_pb2.TASK_STATE_RUNNING)
    await agent.report(assignment.lease, output=session_pb.TaskOutput(stream="stdout", offset=0, data=b"hello "))
    await agent.report(assignment.lease, output=session_pb.TaskOutput(stream="stderr", offset=6, data=b"world"))
    sequence = await agent.completed(assignment, "all good", exit_code=0)
    assert await agent.committed(sequence) is None
    done = await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.result.summary == "all good"
    assert [attempt.agent_id for attempt in done.attempts] == ["agent-1"]
    request = task_service_pb2.ReadTaskOutputRequest(task_id=task.task_id, follow=True)
    pieces = [(piece.stream, piece.data) async for piece in operator.tasks.ReadTaskOutput(request, **operator.call)]
    assert pieces == [("stdout", b"hello "), ("stderr", b"world")]


EXIT_CODE = task_pb2.TaskFailure(kind=task_pb2.FAILURE_KIND_EXIT_CODE, message="exit code 1")
CANCELLED = task_pb2.TaskFailure(kind=task_pb2.FAILURE_KIND_CANCELLED, message="cancelled")


async def do(agent: Sidecar, **result: Any) -> session_pb.TaskAssignment:
    """Do the next task at once."""
    assignment = await agent.next_assignment()
    await agent.started(assignment)
    await agent.completed(assignment, **result)
    return assignment


async def test_a_failed_attempt_is_tried_again_and_the_last_one_counts(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    task = await operator.submit(retry={"max_attempts": 2})
    first = await do(agent, failure=EXIT_CODE, exit_code=1)
    second = await do(agent, failure=EXIT_CODE, exit_code=1)
    assert (first.lease.attempt, second.lease.attempt) == (1, 2)
    assert first.lease.epoch != second.lease.epoch
    failed = await operator.until(task.task_id, task_pb2.TASK_STATE_DEAD)
    assert failed.reason == "all 2 attempts failed, last: exit code 1"
    assert failed.result.failure.kind == task_pb2.FAILURE_KIND_EXIT_CODE
    assert len(failed.attempts) == 2


async def test_what_every_attempt_used_is_added_up_also_over_a_restart(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    task = await operator.submit(retry={"max_attempts": 2, "first_delay": {"nanos": 1000000}})
    model = {"model": "claude-x", "input_tokens": 70, "turns": 1, "cost_usd": 0.5}
    half = {"wall_time": {"seconds": 3}, "memory_peak_bytes": 50, "input_tokens": 70, "cost_usd": 0.5, "models": [model]}
    await do(agent, failure=EXIT_CODE, exit_code=1, usage=half)
    second = await agent.next_assignment()
    await agent.started(second)
    used = task_pb2.TaskUsage(input_tokens=7, unpriced_tokens=7, wall_time={"nanos": 1000})
    assert await agent.committed(await agent.report(second.lease, used=used)) is None
    running = await operator.task(task.task_id)
    assert (running.usage.input_tokens, running.usage.unpriced_tokens) == (77, 7)
    whole = {"wall_time": {"seconds": 4}, "memory_peak_bytes": 20, "input_tokens": 30, "cost_usd": 0.25, "unpriced_tokens": 9}
    await agent.completed(second, usage=whole)
    done = await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)

    control_plane.kill()
    await control_plane.start()
    again = await control_plane.operator().task(task.task_id)
    assert again.usage == done.usage
    assert (done.usage.input_tokens, done.usage.cost_usd, done.usage.unpriced_tokens) == (100, 0.75, 9)
    assert (done.usage.wall_time.seconds, done.usage.memory_peak_bytes, done.result.usage.input_tokens) == (7, 50, 30)
    assert [each.model for each in done.usage.models] == ["claude-x"]
    assert [attempt.usage.input_tokens for attempt in done.attempts] == [70, 30]


async def test_what_became_of_a_patch_is_kept_over_a_restart_and_is_an_event(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    task = await operator.submit()
    landing = task_pb2.Landing(state=task_pb2.LANDING_STATE_EVICTED, branch="agents", commit="a" * 40, reason="it conflicts")
    record = task_service_pb2.RecordLandingRequest(task_id=task.task_id, landing=landing)
    with pytest.raises(grpc.aio.AioRpcError) as early:
        await operator.tasks.RecordLanding(record, **operator.call)
    assert from_call(early.value).reason == "ILLEGAL_TRANSITION"
    await do(agent)
    await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    evicted = (await operator.tasks.RecordLanding(record, **operator.call)).task
    assert evicted.landing.time.seconds
    assert (await first_event(operator, "task.evicted")).summary == "it conflicts"
    for field, value in (("branch", ""), ("commit", "HEAD"), ("state", 99)):
        wrong = task_service_pb2.RecordLandingRequest(task_id=task.task_id, landing=landing)
        setattr(wrong.landing, field, value)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await operator.tasks.RecordLanding(wrong, **operator.call)
        assert from_call(refused.value).details["field"] == f"landing.{field}"

    control_plane.kill()
    await control_plane.start()
    again = control_plane.operator()
    assert (await again.task(task.task_id)).landing == evicted.landing
    assert (await again.tasks.RecordLanding(record, **again.call)).task.version == evicted.version


async def test_a_queued_task_says_what_it_waits_for_and_can_be_cancelled(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    await sidecar("agent-1")
    task = await operator.submit(required_labels={"gpu": "yes"})
    assert task.reason == "no connected agent has the label gpu=yes"
    assert (await operator.task(task.task_id)).reason == task.reason
    request = task_service_pb2.CancelTaskRequest(task_id=task.task_id, reason="changed my mind")
    cancelled = (await operator.tasks.CancelTask(request, **operator.call)).task
    assert cancelled.state == task_pb2.TASK_STATE_CANCELLED
    assert (await operator.tasks.CancelTask(request, **operator.call)).task.version == cancelled.version


async def test_a_page_of_large_tasks_fits_into_an_answer_and_nothing_is_left_out(control_plane: ControlPlane) -> None:
    operator = control_plane.operator()
    submitted = [(await operator.submit(prompt="x" * 200_000)).task_id for _ in range(25)]
    listed: list[str] = []
    request = task_service_pb2.ListTasksRequest()
    while True:
        page = await operator.tasks.ListTasks(request, **operator.call)
        listed += [task.task_id for task in page.tasks]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert listed == submitted[::-1]


async def test_a_task_for_an_agent_that_is_not_there_says_so_and_is_done_once_it_comes(
    control_plane: ControlPlane, sidecar
) -> None:
    operator = control_plane.operator()
    task = await operator.submit(agent_id="agent-2")
    assert task.reason == "waits for agent-2, which nobody here knows"
    agent = await sidecar("agent-2")
    assert (await do(agent)).lease.task_id == task.task_id
    await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    await agent.disconnect()
    again = await operator.submit(agent_id="agent-2", driver="scripted")
    await agents_until(operator, lambda states: states == {"agent-2": agent_pb2.AGENT_STATE_LOST})
    assert (await operator.task(again.task_id)).reason == "waits for agent-2, which is not connected"


async def test_a_task_behind_others_says_how_many_and_a_retried_one_until_when(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    retried = await operator.submit(retry={"first_delay": {"seconds": 1000}, "max_delay": {"seconds": 1000}})
    agent = await sidecar("agent-1")
    await do(agent, failure=EXIT_CODE)
    blocked = await operator.until(retried.task_id, task_pb2.TASK_STATE_BLOCKED)
    assert blocked.reason.startswith("attempt 1 of 3 failed (exit code 1); tries again in ")
    assert blocked.reason.endswith(" UTC")
    busy = await operator.submit()
    await operator.until(busy.task_id, task_pb2.TASK_STATE_LEASED)
    waiting = [await operator.submit() for _ in range(3)]
    reasons = [(await operator.task(task.task_id)).reason for task in waiting]
    assert reasons == [
        "waits for agent-1 to be free",
        "waits for agent-1 to be free; 1 task is before it in the queue",
        "waits for agent-1 to be free; 2 tasks are before it in the queue",
    ]


async def agents_until(operator: Operator, condition: Any) -> None:
    """Wait until the states of all agents, by id, are as wanted."""
    async with asyncio.timeout(10):
        while True:
            listed = await operator.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), **operator.call)
            if condition({agent.agent_id: agent.state for agent in listed.agents}):
                return
            await asyncio.sleep(0.01)


async def test_a_task_gets_no_agent_whose_host_has_less_than_it_asks_for(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    await sidecar("agent-1", capacity={"memory_bytes": 1 << 30, "cpus": 2})
    greedy = await operator.submit(isolation={"limits": {"memory_bytes": 8 << 30}})
    modest = await operator.submit(isolation={"limits": {"memory_bytes": 1 << 30, "cpus": 2}})
    assert (await operator.task(greedy.task_id)).reason == "no connected agent has 8.0 GiB of memory to give"
    await operator.until(modest.task_id, task_pb2.TASK_STATE_LEASED)
    large = await sidecar("agent-2", capacity={"memory_bytes": 8 << 30, "cpus": 2})
    assert (await large.next_assignment()).lease.task_id == greedy.task_id


async def test_a_task_waits_until_its_host_has_the_memory_left(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    host = {"host": "one-host", "capacity": {"memory_bytes": 8 << 30, "cpus": 2}}
    agents = [await sidecar(name, **host) for name in ("agent-1", "agent-2")]
    limits = {"isolation": {"limits": {"memory_bytes": 6 << 30}}}
    await operator.submit(agent_id="agent-1", **limits)
    first = await agents[0].next_assignment()
    second = await operator.submit(agent_id="agent-2", **limits)
    request = task_service_pb2.GetTaskRequest(task_id=second.task_id)
    waiting = (await operator.tasks.GetTask(request, **operator.call)).task
    assert waiting.reason == "waits for 6.0 GiB of memory: one-host has 2.0 GiB left of 8.0 GiB"
    await agents[0].started(first)
    await agents[0].completed(first)
    assert (await agents[1].next_assignment()).lease.task_id == second.task_id


async def test_caps_hold_say_so_and_let_others_pass(tmp_path: Path, sidecar_of) -> None:
    caps = {"tenants": {"default": 3}, "types": {"refactor": 1}, "labels": {"repo=*": 1}}
    plane = ControlPlane(tmp_path / "home", caps=caps)
    await plane.start()
    try:
        operator = plane.operator()
        refactors = [await operator.submit(type="refactor") for _ in range(300)]  # more than one look at the queue
        shops = [await operator.submit(labels={"repo": "shop", "run": str(number)}) for number in range(3)]
        others = [await operator.submit() for _ in range(2)]
        agents = [await sidecar_of(plane, f"agent-{number}") for number in (1, 2, 3)]
        given = [await agent.next_assignment() for agent in agents]
        assert {each.lease.task_id for each in given} == {refactors[0].task_id, shops[0].task_id, others[0].task_id}
        plane.kill()  # what is with agents counts after a restart too
        await plane.start()
        for agent in agents:
            await agent.connect()
        operator = plane.operator()
        reasons = [(await operator.task(task.task_id)).reason for task in (refactors[1], shops[1], others[1])]
        assert set(reasons) == {"waits for a place: tenant default has 3 of 3 (`tasks.concurrency.tenants`)"}
        listing = task_service_pb2.ListTasksRequest(states=[task_pb2.TASK_STATE_QUEUED], page_size=400)
        listed = (await operator.tasks.ListTasks(listing, **operator.call)).tasks
        assert (len(listed), {task.reason for task in listed}) == (302, set(reasons))
        free = agents[[each.lease.task_id for each in given].index(others[0].task_id)]
        await free.completed(next(each for each in given if each.lease.task_id == others[0].task_id))
        assert (await free.next_assignment()).lease.task_id == others[1].task_id
    finally:
        await plane.close()


async def test_other_caps_than_before_the_restart_hold_for_what_was_queued(tmp_path: Path, sidecar_of) -> None:
    plane = ControlPlane(tmp_path / "home")
    await plane.start()
    try:
        operator = plane.operator()
        shops = [await operator.submit(labels={"repo": "shop"}) for _ in range(2)]
        other = await operator.submit(labels={"repo": "other"})
        plane.kill()
        plane.settings["caps"] = {"labels": {"repo=*": 1}}
        await plane.start()
        agents = [await sidecar_of(plane, f"agent-{number}") for number in (1, 2, 3)]
        operator = plane.operator()
        await operator.until(shops[0].task_id, task_pb2.TASK_STATE_LEASED)
        await operator.until(other.task_id, task_pb2.TASK_STATE_LEASED)
        waiting = await operator.task(shops[1].task_id)
        assert waiting.reason == "waits for a place: label repo=shop has 1 of 1 (`tasks.concurrency.labels`)"
        holder = next(agent for agent in agents if shops[0].task_id in agent.leases)
        await do(holder)
        await operator.until(shops[1].task_id, task_pb2.TASK_STATE_LEASED)
    finally:
        await plane.close()


async def test_tasks_that_write_the_same_files_never_run_together_also_after_a_restart(tmp_path: Path, sidecar_of) -> None:
    plane = ControlPlane(tmp_path / "home")
    await plane.start()
    try:
        operator = plane.operator()

        async def writes(*paths: str, repository: str = "/r") -> str:
            return (await operator.submit(workspace={"git": {"repository": repository}}, writes=paths)).task_id

        first = await writes("./src//", "README.md")
        second, docs, elsewhere = await writes("src/**/*.py"), await writes("docs/"), await writes("src/", repository="/other")
        assert list((await operator.task(first)).spec.writes) == ["README.md", "src/"]
        agents = [await sidecar_of(plane, f"agent-{number}") for number in (1, 2, 3)]
        for task_id in (first, docs, elsewhere):
            await operator.until(task_id, task_pb2.TASK_STATE_LEASED)
        plane.kill()
        await plane.start()
        for agent in agents:
            await agent.connect()
        operator = plane.operator()
        late = await writes("src/new.py")
        for task_id in (second, late):
            waiting = await operator.task(task_id)
            assert waiting.state == task_pb2.TASK_STATE_QUEUED
            assert waiting.reason == f"waits for {first}, which writes src/ too"
        holder = next(agent for agent in agents if first in agent.leases)
        await do(holder)
        await operator.until(second, task_pb2.TASK_STATE_LEASED)
        assert (await operator.task(late)).reason == f"waits for {second}, which writes src/**/*.py too"
        await do(next(agent for agent in agents if second in agent.leases))
        await operator.until(late, task_pb2.TASK_STATE_LEASED)
    finally:
        await plane.close()


async def test_cancelling_a_running_task_reaches_its_agent_and_its_children(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    task = await operator.submit(agent_id="agent-1")
    assignment = await agent.next_assignment()
    await agent.started(assignment)
    await operator.until(task.task_id, task_pb2.TASK_STATE_RUNNING)
    as_agent = Operator(control_plane.channel(), sidecar_token("agent-1"))
    child = await as_agent.submit(agent_id="agent-3")
    assert child.spec.parent_task_id == task.task_id
    assert child.submitter == "agent/agent-1"
    request = task_service_pb2.CancelTaskRequest(task_id=task.task_id, reason="enough", grace={"seconds": 2})
    await operator.tasks.CancelTask(request, **operator.call)
    cancellation = await agent.next_cancellation()
    assert cancellation.lease == assignment.lease
    assert (cancellation.grace.seconds, cancellation.reason) == (2, "enough")
    await operator.until(child.task_id, task_pb2.TASK_STATE_CANCELLED)
    await agent.completed(assignment, failure=CANCELLED)
    ended = await operator.until(task.task_id, task_pb2.TASK_STATE_CANCELLED)
    assert ended.reason == "enough"


async def test_a_dependent_task_waits_and_fails_with_what_it_depends_on(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    first = await operator.submit()
    second = await operator.submit(depends_on=[first.task_id])
    third = await operator.submit(depends_on=[second.task_id])
    assert second.state == third.state == task_pb2.TASK_STATE_BLOCKED
    agent = await sidecar("agent-1")
    assert (await do(agent)).lease.task_id == first.task_id
    fatal = task_pb2.TaskFailure(kind=task_pb2.FAILURE_KIND_AGENT_REPORTED, message="no")
    assert (await do(agent, failure=fatal)).lease.task_id == second.task_id
    failed = await operator.until(third.task_id, task_pb2.TASK_STATE_FAILED)
    assert failed.result.failure.kind == task_pb2.FAILURE_KIND_DEPENDENCY
    late = await operator.submit(depends_on=[second.task_id])
    assert late.state == task_pb2.TASK_STATE_FAILED


async def test_the_same_request_id_is_the_same_task_also_after_a_restart(control_plane: ControlPlane) -> None:
    operator = control_plane.operator()
    task = await operator.submit("once", prompt="a")
    assert (await operator.submit("once", prompt="a")).task_id == task.task_id
    control_plane.kill()
    await control_plane.start()
    operator = control_plane.operator()
    assert (await operator.submit("once", prompt="a")).task_id == task.task_id
    with pytest.raises(grpc.aio.AioRpcError) as conflict:
        await operator.submit("once", prompt="b")
    assert from_call(conflict.value).reason == "IDEMPOTENCY_CONFLICT"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"priority": 11}, "spec.priority"),
        ({"prompt": "x" * (257 << 10)}, "spec.prompt"),
        ({"retry": {"max_attempts": 101}}, "spec.retry.max_attempts"),
        ({"driver": "command"}, "spec.command"),
        ({"timeout": {"seconds": -1}}, "spec.timeout"),
        ({"not_before_time": {"seconds": 1 << 62}}, "spec.not_before_time"),
        ({"writes": ["src/"]}, "spec.writes"),
        ({"writes": ["../x"], "workspace": {"git": {"repository": "/r"}}}, "spec.writes"),
        ({"environment": {"BIG": "x" * (2 << 20)}}, "spec"),
    ],
)
async def test_a_task_nobody_could_work_on_is_refused_by_the_name_of_its_field(shared, spec, field) -> None:
    operator = shared.operator()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.submit(**spec)
    error = from_call(refused.value)
    assert (error.reason, error.details["field"]) == ("INVALID_ARGUMENT", field)


async def test_a_task_that_runs_while_the_control_plane_is_killed_counts_once(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    task = await operator.submit()
    assignment = await agent.next_assignment()
    await agent.started(assignment)
    await operator.until(task.task_id, task_pb2.TASK_STATE_RUNNING)
    control_plane.kill()
    await agent.report(assignment.lease, output=session_pb.TaskOutput(stream="stdout", offset=0, data=b"meanwhile"))
    await agent.completed(assignment, "finished alone")
    journal = dict(agent.journal)
    await control_plane.start()
    await agent.connect()
    operator = control_plane.operator()
    done = await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    assert (done.result.summary, len(done.attempts)) == ("finished alone", 1)
    await agent.until(lambda: not agent.journal)
    control_plane.kill()  # and once more, with everything sent again from the start
    await control_plane.start()
    agent.journal = journal
    await agent.connect()
    await agent.until(lambda: not agent.journal)
    assert not agent.refused
    operator = control_plane.operator()
    again = await operator.task(task.task_id)
    assert again.version == done.version
    request = task_service_pb2.ReadTaskOutputRequest(task_id=task.task_id)
    pieces = [piece.data async for piece in operator.tasks.ReadTaskOutput(request, **operator.call)]
    assert pieces == [b"meanwhile"]


async def test_a_running_task_stays_with_its_agent_across_a_restart(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    task = await operator.submit()
    assignment = await agent.next_assignment()
    await agent.started(assignment)
    await operator.until(task.task_id, task_pb2.TASK_STATE_RUNNING)
    control_plane.kill()
    await control_plane.start()
    await agent.connect()
    await agent.beat(agent_pb2.AGENT_STATE_WORKING)
    sequence = await agent.completed(assignment)
    assert await agent.committed(sequence) is None
    assert agent.revoked.empty()
    operator = control_plane.operator()
    assert len((await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)).attempts) == 1


async def events(operator: Operator, kind: str) -> list[event_pb2.Event]:
    """Return what the log has of a kind; a task that is submitted now shows that all before it was written."""
    last = (await operator.submit()).task_id
    found: list[event_pb2.Event] = []
    async for answer in operator.events.WatchEvents(event_service_pb2.WatchEventsRequest(after_cursor=0), **operator.call):
        if answer.event.task_id == last:
            break
        found += [answer.event] if answer.event.type == kind else []
    return found


async def first_event(operator: Operator, kind: str) -> event_pb2.Event:
    request = event_service_pb2.WatchEventsRequest(after_cursor=0, type_prefixes=[kind])
    async for answer in operator.events.WatchEvents(request, **operator.call):
        return answer.event
    raise AssertionError("the stream ended")


async def test_a_new_life_of_a_sidecar_loses_its_task_at_once_and_a_stale_report_changes_nothing(
    control_plane: ControlPlane, sidecar
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    task = await operator.submit(retry={"max_attempts": 1})
    assignment = await agent.next_assignment()
    agent.die()
    await agent.connect()
    second = await agent.next_assignment()
    assert (second.lease.task_id, second.lease.attempt) == (task.task_id, 2)
    stale = await agent.report(assignment.lease, completed=task_pb2.TaskResult(summary="stale"))
    refused = await agent.committed(stale)
    assert refused is not None
    assert refused.reason == "STALE_LEASE"
    told = await first_event(operator, "task.result_refused")
    assert (told.task_id, told.agent_id, told.details["attempt"]) == (task.task_id, "agent-1", "1")
    assert told.details["reason"] == "STALE_LEASE"
    await agent.completed(second, "fresh")
    done = await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.result.summary == "fresh"
    assert done.attempts[0].failure.kind == task_pb2.FAILURE_KIND_AGENT_LOST


async def test_a_lease_that_is_not_renewed_ends_and_its_holder_is_told(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path / "home", lease_seconds=1.0, heartbeat_seconds=0.3)
    await plane.start()
    first = await Sidecar(plane.address, "agent-1", sidecar_token("agent-1")).connect()
    second = Sidecar(plane.address, "agent-2", sidecar_token("agent-2"))
    try:
        operator = plane.operator()
        task = await operator.submit()
        lost = await first.next_assignment()
        await second.connect()
        found = await second.next_assignment()  # nobody renewed the first one
        assert (found.lease.task_id, found.lease.attempt) == (task.task_id, 2)
        await first.beat(agent_pb2.AGENT_STATE_WORKING)
        async with asyncio.timeout(10):
            assert await first.revoked.get() == lost.lease
        told = await first_event(operator, "task.lease_revoked")
        assert (told.task_id, told.agent_id, told.details["attempt"]) == (task.task_id, "agent-1", "1")
        beating = asyncio.create_task(beat_for(second, 2.0), name="beats")
        await beating  # twice as long as a lease, but with signs of life
        assert await second.committed(await second.completed(found)) is None
        await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
        second.leases[task.task_id] = found.lease
        await second.beat(agent_pb2.AGENT_STATE_IDLE)  # written before it knew that its result was taken
        assert await second.revoked.get() == found.lease
        assert [event.agent_id for event in await events(operator, "task.lease_revoked")] == ["agent-1"]
    finally:
        await first.disconnect()
        await second.disconnect()
        await plane.close()


async def beat_for(agent: Sidecar, seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await agent.beat(agent_pb2.AGENT_STATE_WORKING)
        await asyncio.sleep(0.1)


async def test_the_supervisors_word_ends_a_dead_sidecars_lease_at_once(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    plane = ControlPlane(tmp_path / "home", lease_seconds=60.0)
    await plane.start(supervision=theirs.fileno())
    agent = await Sidecar(plane.address, "agent-1", sidecar_token("agent-1"), pid=4711).connect()
    other = Sidecar(plane.address, "agent-2", sidecar_token("agent-2"))
    try:
        operator = plane.operator()
        task = await operator.submit()
        await agent.next_assignment()
        await agent.disconnect()
        await other.connect()
        ours.sendall(b'no json\n{"event":"sidecar_exited","agent_id":"agent-1","incarnation_pid":1}\n')
        ours.sendall(b'{"event":"sidecar_exited","agent_id":"agent-1","incarnation_pid":4711,"cause":"signal 9"}\n')
        found = await other.next_assignment()
        assert (found.lease.task_id, found.lease.attempt) == (task.task_id, 2)
    finally:
        ours.close()
        theirs.close()
        await agent.disconnect()
        await other.disconnect()
        await plane.close()


async def test_an_agent_is_told_the_prompt_within_the_template_of_its_type(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    folder = control_plane.home / "types"
    folder.mkdir()
    (folder / "house_style.md").write_text("---\npriority: 8\ntimeout: 5m\nattempts: 1\nlevel: strict\n---\nBriefly: {prompt}\n")

    task = await operator.submit(type="House-Style", prompt="explain", request_id="once")
    told = await agent.next_assignment()

    assert (told.spec.prompt, told.spec.instructions) == ("Briefly: explain\n", "")
    assert (task.spec.type, task.spec.prompt, task.spec.instructions) == ("house_style", "explain", "Briefly: explain\n")
    assert (task.spec.priority, task.spec.timeout.seconds, task.spec.retry.max_attempts) == (8, 300, 1)
    assert task.spec.isolation.level == agent_pb2.ISOLATION_LEVEL_STRICT
    (folder / "house_style.md").write_text(
        "---\npriority: 8\ntimeout: 5m\nattempts: 1\nlevel: strict\n---\nAt length: {prompt}\n"
    )
    again = await operator.submit(type="house_style", prompt="explain", request_id="once")
    assert (again.task_id, again.spec.instructions) == (task.task_id, "Briefly: explain\n")
    chosen = await operator.submit(type="house_style", priority=2, isolation={"level": agent_pb2.ISOLATION_LEVEL_MODERATE})
    assert (chosen.spec.priority, chosen.spec.isolation.level) == (2, agent_pb2.ISOLATION_LEVEL_MODERATE)


async def test_a_task_is_checked_without_being_stored(control_plane: ControlPlane) -> None:
    operator = control_plane.operator()

    async def check(**spec: Any) -> task_pb2.TaskSpec:
        request = task_service_pb2.CheckTaskRequest(spec=task_pb2.TaskSpec(driver="command", command=["true"], **spec))
        return (await operator.tasks.CheckTask(request, **operator.call)).spec

    assert (await check(type="code-review", prompt="x")).instructions.startswith("Review code.")
    for wrong, reason in (
        ({"type": "code_revue"}, "INVALID_ARGUMENT"),
        ({"priority": 11}, "INVALID_ARGUMENT"),
        ({"depends_on": ["task_" + "0" * 32]}, "TASK_NOT_FOUND"),
        ({"prompt": "x" * (256 * 1024 + 1)}, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(**wrong)
        assert from_call(refused.value).reason == reason
    assert not (await operator.tasks.ListTasks(task_service_pb2.ListTasksRequest(), **operator.call)).tasks
    types = (await operator.tasks.ListTaskTypes(task_service_pb2.ListTaskTypesRequest(), **operator.call)).types
    assert [kind.name for kind in types] == ["analysis", "code_review", "generic", "refactor", "test_generation"]


async def test_a_subtask_is_not_isolated_less_by_way_of_its_type(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    (control_plane.home / "types").mkdir()
    (control_plane.home / "types/loose.md").write_text("---\nlevel: minimal\n---\n{prompt}\n")
    await operator.submit(isolation={"level": agent_pb2.ISOLATION_LEVEL_STRICT})
    await agent.started(await agent.next_assignment())

    as_agent = Operator(control_plane.channel(), sidecar_token("agent-1"))
    child = await as_agent.submit(type="loose", prompt="x")

    assert child.spec.isolation.level == agent_pb2.ISOLATION_LEVEL_STRICT


async def test_a_list_leaves_out_what_ended_earlier(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    first = await operator.submit()
    await do(agent)
    early = await operator.until(first.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    second = await operator.submit()
    await do(agent)
    late = await operator.until(second.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    waiting = await operator.submit(agent_id="agent-2")
    request = task_service_pb2.ListTasksRequest(active_since_time=late.end_time)

    listed = (await operator.tasks.ListTasks(request, **operator.call)).tasks

    assert early.end_time.ToNanoseconds() < late.end_time.ToNanoseconds()
    assert [task.task_id for task in listed] == [waiting.task_id, second.task_id]

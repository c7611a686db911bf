"""A group of subtasks through a real control plane process: its cap, its end, and what a restart does to it."""

from __future__ import annotations

import grpc
import pytest

from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import task_pb2, task_service_pb2
from tests.fakes.control_plane import ControlPlane, Operator, sidecar_token


def group(parallel: int = 0, on_failure: int = task_pb2.SUBTASK_FAILURE_FINISH, **more: object) -> dict[str, object]:
    fan_out = {"parallel": parallel, "on_failure": on_failure}
    return {"request_id": "group", "spec": {"prompt": "all", "fan_out": fan_out, **more}}


def part(name: str, within: int = 0, **more: object) -> dict[str, object]:
    return {"request_id": name, "spec": {"driver": "scripted", "prompt": name}, "within": within, **more}


async def submit(operator: Operator, *tasks: dict[str, object]) -> list[str]:
    ask = task_service_pb2.SubmitTasksRequest(tasks=tasks)
    return list((await operator.tasks.SubmitTasks(ask, **operator.call)).task_ids)


async def test_a_group_gathers_its_subtasks_as_many_at_once_as_it_says(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    one, two = await sidecar("agent-1"), await sidecar("agent-2")
    whole, first, second = await submit(operator, group(1), part("a"), part("b"))
    assignment = await one.next_assignment()
    await one.started(assignment)
    waiting = await operator.until(second, task_pb2.TASK_STATE_QUEUED)
    assert waiting.reason == f"waits for a place: its group {whole} has 1 of 1 subtasks with agents (`parallel`)"
    assert waiting.spec.parent_task_id == whole
    standing = await operator.task(whole)
    assert (standing.state, standing.spec.driver, standing.spec.fan_out.parallel) == (task_pb2.TASK_STATE_BLOCKED, "", 1)
    await one.completed(assignment)
    taken = await (
        one if (await operator.until(second, task_pb2.TASK_STATE_LEASED)).agent_id == "agent-1" else two
    ).next_assignment()
    assert taken.lease.task_id == second
    other = one if (await operator.task(second)).agent_id == "agent-1" else two
    await other.started(taken)
    await other.completed(taken)
    ended = await operator.until(whole, task_pb2.TASK_STATE_SUCCEEDED)
    assert ended.reason == "all 2 subtasks succeeded"
    assert first in ended.result.summary


async def test_a_restart_keeps_a_group_and_its_cap_and_the_failure_of_one_stops_the_others(
    control_plane: ControlPlane, sidecar
) -> None:
    operator = control_plane.operator()
    ask = (
        group(1, task_pb2.SUBTASK_FAILURE_STOP),
        part("a"),
        part("b"),
        {"spec": {"driver": "scripted", "prompt": "c"}, "after": [0]},
    )
    whole, first, second, then = await submit(operator, *ask)
    control_plane.kill()
    await control_plane.start()
    operator = control_plane.operator()
    assert (await submit(operator, *ask))[:3] == [whole, first, second]
    agent = await sidecar("agent-1")
    assignment = await agent.next_assignment()
    assert assignment.lease.task_id == first
    await operator.tasks.CancelTask(task_service_pb2.CancelTaskRequest(task_id=second), **operator.call)
    await operator.until(first, task_pb2.TASK_STATE_LEASED)
    assert (await operator.task(whole)).reason.endswith("which stops the others of its group")
    await agent.completed(assignment, failure=task_pb2.TaskFailure(kind=task_pb2.FAILURE_KIND_CANCELLED, message="told to stop"))
    ended = await operator.until(whole, task_pb2.TASK_STATE_FAILED)
    assert ended.reason.startswith("2 of 2 subtasks did not succeed")
    assert (await operator.until(then, task_pb2.TASK_STATE_FAILED)).result.failure.kind == task_pb2.FAILURE_KIND_DEPENDENCY


async def test_wrong_groups_are_refused_and_leave_nothing(control_plane: ControlPlane) -> None:
    operator = control_plane.operator()
    for tasks, field in (
        ([group()], "tasks[0].spec.fan_out"),
        ([part("a", 0)], "tasks[0].within"),
        ([group(), part("a"), part("b", 1)], "tasks[2].within"),
        ([group(), {**part("a"), "after": [0]}], "tasks[0].after"),
        ([group(driver="scripted"), part("a")], "spec.driver"),
        ([group(budget={"tokens": 5}), part("a")], "spec.budget"),
        ([group(on_failure=9), part("a")], "spec.fan_out.on_failure"),
        ([group(parallel=5000), part("a")], "spec.fan_out.parallel"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await submit(operator, *tasks)
        assert from_call(refused.value).details["field"] == field
    alone = task_service_pb2.SubmitTaskRequest(spec=group()["spec"])
    for who in (operator, Operator(control_plane.channel(), sidecar_token("agent-1"))):
        with pytest.raises(grpc.aio.AioRpcError):
            await who.tasks.SubmitTask(alone, **who.call)
    listed = await operator.tasks.ListTasks(task_service_pb2.ListTasksRequest(), **operator.call)
    assert not listed.tasks

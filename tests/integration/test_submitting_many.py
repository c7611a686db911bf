"""Several tasks in one call, through a real control plane process: all or none, once, in their order."""

from __future__ import annotations

import grpc
import pytest

from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import task_pb2, task_service_pb2
from tests.fakes.control_plane import ControlPlane, Operator, sidecar_token


async def test_several_tasks_are_submitted_in_one_call_and_once(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    ask = task_service_pb2.SubmitTasksRequest(
        tasks=[
            {"request_id": "one", "spec": {"driver": "scripted", "prompt": "one"}},
            {"request_id": "two", "spec": {"driver": "scripted", "prompt": "two"}, "after": [0]},
        ]
    )
    first, second = (await operator.tasks.SubmitTasks(ask, **operator.call)).task_ids
    assert (await operator.task(second)).reason.startswith(f"waits for 1 task: {first}")
    control_plane.kill()
    await control_plane.start()
    operator = control_plane.operator()
    assert (await operator.tasks.SubmitTasks(ask, **operator.call)).task_ids == [first, second]
    agent = await sidecar("agent-1")
    for task_id in (first, second):
        assignment = await agent.next_assignment()
        assert assignment.lease.task_id == task_id
        await agent.started(assignment)
        await agent.completed(assignment)
        await operator.until(task_id, task_pb2.TASK_STATE_SUCCEEDED)


async def test_a_request_of_several_tasks_that_cannot_be_stores_none_of_them(control_plane: ControlPlane) -> None:
    operator = control_plane.operator()
    good = {"spec": {"driver": "scripted", "prompt": "x"}}
    for tasks, field in (
        ([], "tasks"),
        ([good] * 1001, "tasks"),
        ([good, {"spec": {"driver": "scripted", "prompt": "x" * 262_000}}] * 9, "tasks"),
        ([good, {**good, "after": [1]}], "tasks[1].after"),
        ([good, {"spec": {"driver": "scripted", "prompt": "x", "priority": 11}}], "spec.priority"),
        ([good, {"spec": {"driver": "scripted", "prompt": "x", "type": "nonsense"}}], "spec.type"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await operator.tasks.SubmitTasks(task_service_pb2.SubmitTasksRequest(tasks=tasks), **operator.call)
        assert from_call(refused.value).details["field"] == field
    listed = await operator.tasks.ListTasks(task_service_pb2.ListTasksRequest(), **operator.call)
    assert not listed.tasks
    of_agent = Operator(control_plane.channel(), sidecar_token("agent-1"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await of_agent.tasks.SubmitTasks(task_service_pb2.SubmitTasksRequest(tasks=[good]), **of_agent.call)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

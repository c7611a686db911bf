"""Tasks through a real control plane process: from submission to result, retries, cancels and restarts."""

from __future__ import annotations

from claude_conductor.v1 import task_pb2, task_service_pb2
from claude_conductor.v1 import session_service_pb2 as session_pb
from tests.fakes.control_plane import ControlPlane
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

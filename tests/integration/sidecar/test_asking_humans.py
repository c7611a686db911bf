"""An agent that asks a human through its socket: answered, given up, refused, and over the death of the control plane."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent_sidecar.local.humans import QUESTIONS_AT_ONCE
from claude_conductor.errors import DeadlineExceededError
from claude_conductor.rpc.status import from_call
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import agent_pb2, task_pb2, task_service_pb2
from claude_conductor.v1 import session_service_pb2 as pb
from tests.fakes.control_plane import ControlPlane, Operator, sidecar_token
from tests.fakes.scripted_control_plane import FakeControlPlane
from tests.fakes.sidecar_process import SidecarProcess, settings
from tests.integration.sidecar.test_sidecar_agent import AGENT, ENVIRONMENT, PROGRAM, answers, calls

LEASE = {"task_id": "task_1", "attempt": 1, "epoch": 7}


def asked(plane: FakeControlPlane) -> list[pb.QuestionAsked]:
    return [request.report.asked for request in plane.taken if request.report.HasField("asked")]


def withdrawn(plane: FakeControlPlane) -> list[tuple[str, bool]]:
    reports = [request.report.withdrawn for request in plane.taken if request.report.HasField("withdrawn")]
    return [(each.question_id, each.expired) for each in reports]


def close(plane: FakeControlPlane, question_id: str, state: int = task_pb2.QUESTION_STATE_ANSWERED, **answer: Any) -> None:
    closed = pb.QuestionClosed(lease=LEASE, question_id=question_id, state=state, answer=answer or None)  # type: ignore[arg-type]
    plane.say(pb.ConnectResponse(question_closed=closed))


async def test_a_call_returns_with_the_answer_and_the_agent_is_shown_as_waiting(
    plane: FakeControlPlane, sidecar: SidecarProcess
) -> None:
    ask = {"questionId": "q", "text": "Which?", "options": ["red", "blue"], "waits": "60s", "timeout": 60}
    plane.assign("task_1", calls(["AskHuman", ask], ["GetSelf", {}]))
    await plane.until(lambda: asked(plane))
    (question,) = asked(plane)
    assert (question.text, list(question.options), question.kind) == ("Which?", ["red", "blue"], task_pb2.QUESTION_KIND_QUESTION)
    assert 55 < question.timeout.seconds <= 60
    waiting = agent_pb2.AGENT_STATE_WAITING_FOR_HUMAN
    await plane.until(lambda: plane.heartbeats()[-1].state == waiting)
    assert plane.heartbeats()[-1].reason == "a human has to answer: `conductor tasks answer task_1`"
    close(plane, "another", text="not this one")
    close(plane, "q", option=2, text="like the sky", answered_by="operator")
    close(plane, "q", option=1)
    answer, _ = await answers(plane)
    assert answer == {"questionId": "q", "option": 2, "optionText": "blue", "text": "like the sky", "answeredBy": "operator"}
    assert withdrawn(plane) == []


async def test_an_approval_is_approved_or_not(plane: FakeControlPlane, sidecar: SidecarProcess) -> None:
    approval = {"kind": "QUESTION_KIND_APPROVAL", "text": "May I?", "raw": "rm -rf build"}
    plane.assign("task_1", calls(*(["AskHuman", {"questionId": name, **approval}] for name in ("a", "b"))))
    for number, name in enumerate(("a", "b"), start=1):
        await plane.until(lambda count=number: len(asked(plane)) == count)
        close(plane, name, option=number)
    yes, no = await answers(plane)
    assert asked(plane)[0].raw == "rm -rf build"
    assert (yes["approved"], yes["optionText"]) == (True, "approve")
    assert (no.get("approved"), no["optionText"]) == (None, "deny")


async def test_an_overdue_question_is_withdrawn_and_the_last_word_counts(
    plane: FakeControlPlane, sidecar: SidecarProcess
) -> None:
    steps = [["AskHuman", {"questionId": name, "text": "well?", "waits": "0.3s"}] for name in ("late", "just-in-time")]
    plane.assign("task_1", calls(*steps))
    await plane.until(lambda: withdrawn(plane) == [("late", True)])
    close(plane, "late", task_pb2.QUESTION_STATE_EXPIRED)
    await plane.until(lambda: len(withdrawn(plane)) == 2)
    close(plane, "just-in-time", text="yes")
    late, in_time = await answers(plane)
    assert late == {"error": "DEADLINE_EXCEEDED"}
    assert in_time == {"questionId": "just-in-time", "text": "yes"}


async def test_a_call_that_is_given_up_withdraws_its_question_and_the_same_one_can_be_asked_again(
    plane: FakeControlPlane, sidecar: SidecarProcess
) -> None:
    ask = {"questionId": "q", "text": "well?"}
    plane.assign("task_1", calls(["AskHuman", {**ask, "timeout": 1}], ["AskHuman", {**ask, "timeout": 30}]))
    await plane.until(lambda: len(asked(plane)) == 2)
    assert withdrawn(plane)[0][0] == "q"
    close(plane, "q", text="yes")
    gone, again = await answers(plane)
    assert gone == {"error": "DEADLINE_EXCEEDED"}
    assert again["text"] == "yes"


async def test_an_agent_that_ends_withdraws_what_it_asked(plane: FakeControlPlane, sidecar: SidecarProcess) -> None:
    ask = {"questionId": "q", "text": "well?", "timeout": 60}
    spec = calls(["AskHuman", ask], timeout={"seconds": 3})
    plane.assign("task_1", spec)
    await plane.until(lambda: asked(plane))
    result = await plane.result()
    assert result.failure.kind == task_pb2.FAILURE_KIND_TIMEOUT
    await plane.until(lambda: withdrawn(plane) == [("q", False)])


async def test_what_cannot_be_asked_is_refused_with_a_reason(plane: FakeControlPlane, sidecar: SidecarProcess) -> None:
    plane.refuse = lambda request: "IDEMPOTENCY_CONFLICT" if request.report.HasField("asked") else ""
    plane.assign(
        "task_1",
        calls(
            ["AskHuman", {"text": "x" * 4097}],
            ["AskHuman", {"text": "May I?", "raw": "x" * (65 << 10)}],
            ["AskHuman", {"text": "well?", "waits": "90000s"}],
            ["AskHuman", {"text": "well?", "options": ["x" * 2000] * 3}],
            ["AskHuman", {"text": "other words than before"}],
            *(["AskHuman", {"text": "well?"}] for _ in range(2 * QUESTIONS_AT_ONCE)),
        ),
    )
    refused = [each["error"] for each in await answers(plane)]
    assert refused[:4] == ["INVALID_ARGUMENT"] * 4
    assert refused[4] == "IDEMPOTENCY_CONFLICT"
    assert refused[-1] == "RATE_LIMITED"


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    """A real control plane with the SQLite store, for a real sidecar."""
    home = tmp_path / "plane"
    plane = ControlPlane(home, agents=("agent-1",))
    await plane.start()
    yield plane
    await plane.close()


@pytest.fixture
async def real_sidecar(real: ControlPlane, tmp_path: Path) -> AsyncIterator[SidecarProcess]:
    running = SidecarProcess(settings(tmp_path, control_plane=real.address, token=Secret(sidecar_token("agent-1"))))
    await running.start()
    yield running
    await running.stop(9)


async def submit(operator: Operator, *steps: list[object]) -> str:
    spec = task_pb2.TaskSpec(
        driver="command", command=PROGRAM, prompt=json.dumps(steps), prompt_by="stdin", environment=ENVIRONMENT
    )
    request = task_service_pb2.SubmitTaskRequest(spec=spec)
    return str((await operator.tasks.SubmitTask(request, **operator.call)).task.task_id)


async def answer(operator: Operator, task_id: str, **given: Any) -> Any:
    request = task_service_pb2.AnswerTaskRequest(task_id=task_id, **given)
    return (await operator.tasks.AnswerTask(request, **operator.call)).task


async def test_a_question_outlives_the_control_plane_and_the_same_call_returns_once(
    real: ControlPlane, real_sidecar: SidecarProcess
) -> None:
    operator = real.operator()
    task_id = await submit(operator, ["AskHuman", {"questionId": "q", "text": "go on?", "timeout": 90}])
    before = await operator.until(task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    real.kill()
    await real.start()
    operator = real.operator()
    again = await operator.task(task_id)
    assert (again.state, again.question) == (task_pb2.TASK_STATE_WAITING_FOR_HUMAN, before.question)
    await answer(operator, task_id, question_id="q", text="go on")
    with pytest.raises(grpc.aio.AioRpcError) as second:
        await answer(operator, task_id, text="stop")
    assert from_call(second.value).reason == "ILLEGAL_TRANSITION"
    done = await operator.until(task_id, task_pb2.TASK_STATE_SUCCEEDED)
    assert [json.loads(line) for line in done.result.summary.splitlines()] == [
        {"questionId": "q", "text": "go on", "answeredBy": "operator"}
    ]
    assert len(done.attempts) == 1


async def test_an_answer_that_is_asked_for_again_is_the_one_that_was_given(
    real: ControlPlane, real_sidecar: SidecarProcess
) -> None:
    operator = real.operator()
    ask = {"questionId": "q", "text": "go on?", "timeout": 90}
    task_id = await submit(operator, ["AskHuman", ask], ["AskHuman", ask], ["AskHuman", {**ask, "text": "stop?"}])
    await operator.until(task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    await answer(operator, task_id, text="go on")
    done = await operator.until(task_id, task_pb2.TASK_STATE_SUCCEEDED)
    first, repeat, other = [json.loads(line) for line in done.result.summary.splitlines()]
    assert first == repeat
    assert other == {"error": "IDEMPOTENCY_CONFLICT"}


async def test_nobody_answers_and_the_task_runs_on(real: ControlPlane, real_sidecar: SidecarProcess) -> None:
    operator = real.operator()
    task_id = await submit(operator, ["AskHuman", {"text": "go on?", "waits": "0.5s"}])
    done = await operator.until(task_id, task_pb2.TASK_STATE_SUCCEEDED)
    assert json.loads(done.result.summary) == {"error": DeadlineExceededError.reason}
    assert done.question.state == task_pb2.QUESTION_STATE_EXPIRED


async def test_a_long_running_agent_asks_about_its_task(real: ControlPlane, tmp_path: Path) -> None:
    changes = {"agent_command": AGENT, "agent_environment": ENVIRONMENT}
    given = settings(tmp_path, control_plane=real.address, token=Secret(sidecar_token("agent-1")), **changes)
    running = SidecarProcess(given)
    await running.start()
    try:
        operator = real.operator()
        spec = task_pb2.TaskSpec(driver="grpc_agent", prompt="ask")
        request = task_service_pb2.SubmitTaskRequest(spec=spec)
        task_id = (await operator.tasks.SubmitTask(request, **operator.call)).task.task_id
        await operator.until(task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
        await answer(operator, task_id, text="yes")
        done = await operator.until(task_id, task_pb2.TASK_STATE_SUCCEEDED)
        assert json.loads(done.result.summary.removeprefix("did "))["text"] == "yes"
    finally:
        await running.stop(9)

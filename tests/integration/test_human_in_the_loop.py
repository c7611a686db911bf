"""Questions to humans and rate limits through a real control plane process: asked, answered, expired, and over its death."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from claude_conductor.errors import ConductorError
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import agent_pb2, event_service_pb2, task_pb2, task_service_pb2
from claude_conductor.v1 import session_service_pb2 as session_pb
from tests.fakes.control_plane import ControlPlane, Operator, sidecar_token
from tests.fakes.sidecar import Sidecar

HOSTILE = "Drop it? \x1b[2J\u202e"


async def at_work(operator: Operator, agent: Sidecar) -> session_pb.TaskAssignment:
    """Return a task that runs."""
    task = await operator.submit()
    assignment = await agent.next_assignment()
    await agent.started(assignment)
    await operator.until(task.task_id, task_pb2.TASK_STATE_RUNNING)
    return assignment


async def ask(agent: Sidecar, assignment: session_pb.TaskAssignment, question_id: str = "q-1", **changes: Any) -> int:
    given = {"text": HOSTILE, "options": ["yes", "no"], "timeout": {"seconds": 60}, **changes}
    return await agent.report(assignment.lease, asked=session_pb.QuestionAsked(question_id=question_id, **given))


async def answer(operator: Operator, task_id: str, **given: Any) -> Any:
    request = task_service_pb2.AnswerTaskRequest(task_id=task_id, **given)
    return (await operator.tasks.AnswerTask(request, **operator.call)).task


async def refused(operator: Operator, task_id: str, **given: Any) -> ConductorError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await answer(operator, task_id, **given)
    return from_call(failed.value)


def outcomes(agent: Sidecar) -> list[tuple[str, int, str, int]]:
    return [(each.question_id, each.state, each.answer.text, each.answer.option) for each in agent.closed]


async def test_a_question_waits_for_its_answer_and_the_first_one_counts(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    task_id = assignment.lease.task_id
    await ask(agent, assignment)
    waiting = await operator.until(task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    assert waiting.reason.startswith("asks a human: Drop it?")
    assert (waiting.question.text, list(waiting.question.options)) == (HOSTILE, ["yes", "no"])
    assert waiting.question.expire_time.seconds - waiting.question.ask_time.seconds == 60
    assert waiting.state_time == waiting.question.ask_time
    after = await answer(operator, task_id, question_id="q-1", option=2, text="never", request_id="r")
    assert after.state == task_pb2.TASK_STATE_RUNNING
    assert (after.question.state, after.question.answer.answered_by) == (task_pb2.QUESTION_STATE_ANSWERED, "operator")
    await agent.until(lambda: agent.closed)
    assert outcomes(agent) == [("q-1", task_pb2.QUESTION_STATE_ANSWERED, "never", 2)]
    assert agent.closed[0].lease == assignment.lease
    assert (await answer(operator, task_id, question_id="q-1", option=2, text="never", request_id="r")).version == after.version
    second = await refused(operator, task_id, question_id="q-1", option=1)
    assert (second.reason, "answered already, by operator" in second.message) == ("ILLEGAL_TRANSITION", True)
    await agent.completed(assignment)
    await operator.until(task_id, task_pb2.TASK_STATE_SUCCEEDED)


async def test_watchers_hear_of_the_question_and_of_its_end(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    await ask(agent, assignment)
    await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    await answer(operator, assignment.lease.task_id, option=1)
    request = event_service_pb2.WatchEventsRequest(after_cursor=0)
    told: list[str] = []
    async for each in operator.events.WatchEvents(request, **operator.call):
        if each.event.task_id:
            told.append(each.event.type)
        if told.count("task.running") == 2:
            break
    assert told[-3:] == ["task.running", "task.waiting_for_human", "task.running"]


async def test_only_the_operator_answers(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    await ask(agent, assignment)
    as_agent = Operator(control_plane.channel(), sidecar_token("agent-1"))
    error = await refused(as_agent, assignment.lease.task_id, option=1)
    assert error.reason == "PERMISSION_DENIED"


async def test_a_question_is_asked_once_whatever_is_repeated_and_its_answer_comes_again(
    control_plane: ControlPlane, sidecar
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    for _ in range(2):
        assert await agent.committed(await ask(agent, assignment)) is None
    other = await agent.committed(await ask(agent, assignment, "q-2"))
    assert other is not None
    assert other.reason == "ILLEGAL_TRANSITION"
    await answer(operator, assignment.lease.task_id, option=1)
    assert await agent.committed(await ask(agent, assignment)) is None
    await agent.until(lambda: len(agent.closed) == 2)
    assert outcomes(agent) == [("q-1", task_pb2.QUESTION_STATE_ANSWERED, "", 1)] * 2
    changed = await agent.committed(await ask(agent, assignment, text="Drop everything?"))
    assert changed is not None
    assert changed.reason == "IDEMPOTENCY_CONFLICT"


async def test_an_approval_is_answered_with_an_option(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    approval = {"kind": task_pb2.QUESTION_KIND_APPROVAL, "raw": "rm -rf build", "options": []}
    assert await agent.committed(await ask(agent, assignment, **approval)) is None
    shown = await operator.task(assignment.lease.task_id)
    assert (shown.question.raw, list(shown.question.options)) == ("rm -rf build", ["approve", "deny"])
    error = await refused(operator, assignment.lease.task_id, text="yes")
    assert (error.reason, error.details["field"]) == ("INVALID_ARGUMENT", "option")
    await answer(operator, assignment.lease.task_id, option=2)
    await agent.until(lambda: agent.closed)
    assert outcomes(agent) == [("q-1", task_pb2.QUESTION_STATE_ANSWERED, "", 2)]


@pytest.mark.parametrize(
    ("expired", "state", "word"),
    [(True, task_pb2.QUESTION_STATE_EXPIRED, "has expired"), (False, task_pb2.QUESTION_STATE_WITHDRAWN, "was withdrawn")],
)
async def test_a_question_that_is_given_up_lets_the_task_run_on(
    control_plane: ControlPlane, sidecar, expired: bool, state: int, word: str
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    await ask(agent, assignment)
    withdrawn = session_pb.QuestionWithdrawn(question_id="q-1", expired=expired)
    assert await agent.committed(await agent.report(assignment.lease, withdrawn=withdrawn)) is None
    now = await operator.task(assignment.lease.task_id)
    assert (now.state, now.question.state) == (task_pb2.TASK_STATE_RUNNING, state)
    await agent.until(lambda: agent.closed)
    assert outcomes(agent) == [("q-1", state, "", 0)]
    late = await refused(operator, assignment.lease.task_id, option=1)
    assert (late.reason, word in late.message) == ("ILLEGAL_TRANSITION", True)


async def test_a_question_dies_with_its_attempt(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    await ask(agent, assignment)
    await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    await agent.completed(assignment, "did not need to know")
    done = await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.question.state == task_pb2.QUESTION_STATE_WITHDRAWN
    await agent.until(lambda: agent.closed)
    late = await agent.committed(await ask(agent, assignment, "q-2"))
    assert late is not None
    assert late.reason == "STALE_LEASE"


async def test_a_question_survives_the_control_plane_and_is_answered_after_its_restart(
    control_plane: ControlPlane, sidecar
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    assert await agent.committed(await ask(agent, assignment)) is None  # so that it is not sent again
    asked = await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    control_plane.kill()
    await control_plane.start()
    await agent.connect()
    await agent.beat(agent_pb2.AGENT_STATE_WAITING_FOR_HUMAN)
    operator = control_plane.operator()
    again = await operator.task(assignment.lease.task_id)
    assert (again.question, again.state, again.version) == (asked.question, asked.state, asked.version)
    await answer(operator, assignment.lease.task_id, option=1)
    await agent.until(lambda: agent.closed)
    assert outcomes(agent) == [("q-1", task_pb2.QUESTION_STATE_ANSWERED, "", 1)]


async def test_an_answer_that_was_given_before_the_control_plane_died_is_told_with_the_next_session(
    control_plane: ControlPlane, sidecar
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    assert await agent.committed(await ask(agent, assignment)) is None  # so that it is not sent again
    await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    await agent.disconnect()
    await answer(operator, assignment.lease.task_id, text="go on", request_id="r")
    control_plane.kill()
    await control_plane.start()
    operator = control_plane.operator()
    await answer(operator, assignment.lease.task_id, text="go on", request_id="r")  # whose answer was lost with it
    second = await refused(operator, assignment.lease.task_id, text="stop")
    assert second.reason == "ILLEGAL_TRANSITION"
    await agent.connect()
    await agent.until(lambda: agent.closed)
    assert outcomes(agent) == [("q-1", task_pb2.QUESTION_STATE_ANSWERED, "go on", 0)]


async def test_a_question_is_withdrawn_with_its_sidecar_and_the_next_attempt_asks_anew(
    control_plane: ControlPlane, sidecar
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    assert await agent.committed(await ask(agent, assignment)) is None
    agent.die()
    await agent.connect()
    second = await agent.next_assignment()
    lost = await operator.task(assignment.lease.task_id)
    assert (lost.question.state, lost.question.attempt) == (task_pb2.QUESTION_STATE_WITHDRAWN, 1)
    late = await refused(operator, assignment.lease.task_id, option=1)
    assert "was withdrawn" in late.message
    await agent.started(second)
    assert await agent.committed(await ask(agent, second)) is None
    again = await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    assert again.question.attempt == 2
    await answer(operator, assignment.lease.task_id, option=1)
    await agent.until(lambda: agent.closed)
    assert [each.lease.attempt for each in agent.closed] == [2]


async def test_of_two_answers_at_once_one_counts(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    await ask(agent, assignment)
    await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_WAITING_FOR_HUMAN)
    both = (answer(operator, assignment.lease.task_id, option=number) for number in (1, 2, 1, 2))
    done = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(isinstance(each, grpc.aio.AioRpcError) for each in done) == [False, True, True, True]
    await agent.until(lambda: agent.closed)
    now = await operator.task(assignment.lease.task_id)
    assert outcomes(agent) == [("q-1", task_pb2.QUESTION_STATE_ANSWERED, "", now.question.answer.option)]


async def test_a_rate_limit_is_a_state_of_the_task_with_its_time_and_its_reason(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    assignment = await at_work(operator, agent)
    limited = session_pb.TaskRateLimited(retry_delay={"seconds": 90}, reason="the model provider answered 429")
    await agent.report(assignment.lease, rate_limited=limited)
    task = await operator.until(assignment.lease.task_id, task_pb2.TASK_STATE_RATE_LIMITED)
    assert task.reason == "the model provider answered 429"
    assert task.state_time.seconds >= task.start_time.seconds
    await agent.report(assignment.lease, rate_limit_ended=session_pb.TaskRateLimitEnded())
    assert (await operator.until(task.task_id, task_pb2.TASK_STATE_RUNNING)).reason == "runs on agent-1"

"""A running task that waits: for a human, or for the model provider."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_conductor.errors import IdempotencyConflictError, IllegalTransitionError, InvalidArgumentError, StaleLeaseError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from controlplane.domain.pauses import Answered, Asked, LimitEnded, RateLimited, Withdrawn
from controlplane.domain.question import MAX_RAW, Answer, Question, QuestionKind, QuestionState
from controlplane.domain.task import Failure, FailureKind, IsolationStatus, Lease, Result, Spec, State, Task
from controlplane.domain.task_machine import (
    AgentLost,
    CancelRequested,
    Completed,
    Event,
    Leased,
    Progressed,
    Publish,
    Started,
    Step,
    TellAsker,
    admit,
    apply,
)

ID = TaskId("task_1")
AGENT = AgentId("agent-1")
LEASE = Lease(ID, 1, 111)
STALE = Lease(ID, 1, 999)
COLOUR = Question("q-1", "Which colour?", attempt=1, ask_time=110.0, expire_time=170.0, options=("red", "blue"))
APPROVAL = Question("q-2", "May I?", 1, 110.0, 170.0, kind=QuestionKind.APPROVAL, raw="rm -rf build")
RED = Answer("operator", option=1, request_id="r-1")
FAILED = Result(failure=Failure(FailureKind.EXIT_CODE, "exit code 1"))


def leased() -> Task:
    task = admit(Task(ID, DEFAULT_TENANT, Spec(), State.QUEUED, "", create_time=100.0, submitter="operator")).task
    return apply(task, Leased(LEASE, AGENT, Incarnation("inc"), 101.0)).task


def running() -> Task:
    return apply(leased(), Started(LEASE, IsolationStatus(), 102.0)).task


def asked(question: Question = COLOUR) -> Task:
    return apply(running(), Asked(LEASE, question, 110.0)).task


def answered(task: Task | None = None, answer: Answer = RED) -> Step:
    return apply(task or asked(), Answered("q-1", answer, 120.0))


def published(step: Step) -> list[tuple[str, str]]:
    return [(effect.type, effect.summary) for effect in step.effects if isinstance(effect, Publish)]


# --- asking


def test_a_question_puts_a_running_task_into_waiting_for_a_human() -> None:
    step = apply(running(), Asked(LEASE, COLOUR, 110.0))
    assert (step.task.state, step.task.state_time, step.task.question) == (State.WAITING_FOR_HUMAN, 110.0, COLOUR)
    assert step.task.reason == "asks a human: Which colour?"
    assert published(step) == [("task.waiting_for_human", "Which colour?")]


def test_the_same_question_again_changes_nothing() -> None:
    task = asked()
    assert apply(task, Asked(LEASE, replace(COLOUR, ask_time=111.0, expire_time=171.0), 111.0)) == Step(task)


def test_an_id_stands_for_one_question_of_an_attempt() -> None:
    harmless = replace(APPROVAL, raw="ls")
    approved = apply(asked(harmless), Answered("", Answer("operator", option=1), 120.0)).task
    with pytest.raises(IdempotencyConflictError):
        apply(approved, Asked(LEASE, replace(APPROVAL, raw="rm -rf /"), 121.0))


def test_an_answered_question_that_is_asked_again_stays_answered() -> None:
    task = answered().task
    assert apply(task, Asked(LEASE, replace(COLOUR, ask_time=130.0, expire_time=190.0), 130.0)) == Step(task)


@pytest.mark.parametrize("expired", [True, False])
def test_a_question_nobody_answered_can_be_asked_again_under_its_id(expired: bool) -> None:
    task = apply(asked(), Withdrawn(LEASE, "q-1", expired, 170.0)).task
    again = replace(COLOUR, ask_time=180.0, expire_time=240.0)
    assert apply(task, Asked(LEASE, again, 180.0)).task.question == again


def test_another_attempt_asks_anew_under_the_same_id() -> None:
    lost = apply(answered().task, AgentLost(LEASE, "gone", 130.0)).task
    lease = Lease(ID, 2, 222)
    second = apply(
        apply(lost, Leased(lease, AGENT, Incarnation("inc"), 131.0)).task, Started(lease, IsolationStatus(), 132.0)
    ).task
    step = apply(second, Asked(lease, replace(COLOUR, attempt=2, ask_time=140.0, expire_time=150.0), 140.0))
    assert step.task.state is State.WAITING_FOR_HUMAN


def test_one_question_at_a_time() -> None:
    with pytest.raises(IllegalTransitionError, match="another question"):
        apply(asked(), Asked(LEASE, APPROVAL, 111.0))


def test_a_task_that_does_not_run_asks_nothing() -> None:
    for event in (Asked(LEASE, COLOUR, 110.0), RateLimited(LEASE, 130.0, "429", 110.0)):
        with pytest.raises(IllegalTransitionError):
            apply(leased(), event)


@pytest.mark.parametrize(
    "event",
    [Asked(STALE, COLOUR, 1.0), Withdrawn(STALE, "q-1", True, 1.0), RateLimited(STALE, 2.0, "429", 1.0), LimitEnded(STALE, 1.0)],
    ids=lambda event: type(event).__name__,
)
def test_a_stale_lease_changes_nothing(event: Event) -> None:
    for task in (running(), asked(), apply(asked(), Completed(LEASE, Result(), 120.0, 0.5)).task):
        with pytest.raises(StaleLeaseError):
            apply(task, event)


@pytest.mark.parametrize(
    "question",
    [
        replace(COLOUR, text=""),
        replace(COLOUR, text="x" * 5000),
        replace(COLOUR, id=""),
        replace(COLOUR, id="x" * 129),
        replace(COLOUR, options=("x",) * 11),
        replace(COLOUR, options=("",)),
        replace(COLOUR, raw="rm -rf /"),
        replace(COLOUR, expire_time=COLOUR.ask_time),
        replace(COLOUR, expire_time=COLOUR.ask_time + 2 * 86400),
        replace(APPROVAL, raw=""),
        replace(APPROVAL, raw="x" * (MAX_RAW + 1)),
        replace(APPROVAL, options=("of course", "certainly")),
    ],
)
def test_what_is_no_question_is_refused(question: Question) -> None:
    with pytest.raises(InvalidArgumentError):
        apply(running(), Asked(LEASE, question, 110.0))


# --- answering


def test_the_answer_puts_the_task_back_to_running_and_tells_its_agent() -> None:
    step = answered()
    assert (step.task.state, step.task.state_time, step.task.reason) == (State.RUNNING, 120.0, "runs on agent-1")
    assert step.task.question is not None
    assert (step.task.question.state, step.task.question.answer) == (QuestionState.ANSWERED, RED)
    assert step.effects == (
        TellAsker(LEASE, AGENT, step.task.question),
        Publish("task.running", "goes on: operator answered"),
    )


def test_the_first_answer_counts() -> None:
    with pytest.raises(IllegalTransitionError, match=r"answered already, by operator"):
        answered(answered().task, Answer("operator", option=2, request_id="r-2"))


def test_a_repeat_of_the_same_answer_changes_nothing() -> None:
    task = answered().task
    assert answered(task) == Step(task)


def test_the_same_answer_of_somebody_else_is_a_second_one() -> None:
    nameless = replace(RED, request_id="")
    with pytest.raises(IllegalTransitionError):
        answered(answered(answer=nameless).task, nameless)


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(IllegalTransitionError, match="something else by now"):
        apply(asked(), Answered("q-0", RED, 120.0))


@pytest.mark.parametrize(("expired", "why"), [(True, "has expired"), (False, "was withdrawn")])
def test_an_answer_that_comes_too_late_is_refused(expired: bool, why: str) -> None:
    task = apply(asked(), Withdrawn(LEASE, "q-1", expired, 170.0)).task
    with pytest.raises(IllegalTransitionError, match=why):
        answered(task)


def test_there_is_nothing_to_answer_where_nothing_was_asked() -> None:
    with pytest.raises(IllegalTransitionError, match="not asked anything"):
        answered(running())


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (COLOUR, Answer("operator")),
        (COLOUR, Answer("operator", text="  ")),
        (COLOUR, Answer("operator", option=3)),
        (replace(COLOUR, options=()), Answer("operator", option=1)),
        (APPROVAL, Answer("operator", text="yes, do it")),
        (COLOUR, Answer("operator", text="x" * (65 << 10))),
    ],
)
def test_an_answer_has_to_fit_its_question(question: Question, answer: Answer) -> None:
    with pytest.raises(InvalidArgumentError):
        apply(asked(question), Answered("", answer, 120.0))


def test_an_approval_has_its_two_options() -> None:
    question = asked(APPROVAL).question
    assert question is not None
    assert question.options == ("approve", "deny")


# --- the other ways out


@pytest.mark.parametrize(("expired", "state"), [(True, QuestionState.EXPIRED), (False, QuestionState.WITHDRAWN)])
def test_a_question_that_is_not_waited_for_any_more_lets_the_task_run_on(expired: bool, state: QuestionState) -> None:
    step = apply(asked(), Withdrawn(LEASE, "q-1", expired, 170.0))
    assert step.task.question is not None
    assert (step.task.state, step.task.question.state, step.task.question.close_time) == (State.RUNNING, state, 170.0)
    assert [kind for kind, _ in published(step)] == ["task.running"]


def test_an_answer_that_was_faster_than_the_withdrawal_counts() -> None:
    task = answered().task
    assert apply(task, Withdrawn(LEASE, "q-1", expired=True, at=121.0)) == Step(task)


@pytest.mark.parametrize(
    "event",
    [Completed(LEASE, Result(), 130.0, 0.5), Completed(LEASE, FAILED, 130.0, 0.5), AgentLost(LEASE, "gone", 130.0)],
    ids=["succeeded", "failed", "lost"],
)
def test_the_end_of_an_attempt_withdraws_its_question(event: Event) -> None:
    step = apply(apply(asked(), RateLimited(LEASE, 500.0, "429", 111.0)).task, event)
    assert step.task.question is not None
    assert (step.task.question.state, step.task.question.close_time) == (QuestionState.WITHDRAWN, 130.0)
    assert step.task.limited_until is None
    assert step.effects[0] == TellAsker(LEASE, AGENT, step.task.question)


def test_a_task_that_waits_can_be_cancelled_and_says_so_until_it_has_ended() -> None:
    cancelling = apply(asked(), CancelRequested("enough", 5.0, 120.0)).task
    assert (cancelling.state, cancelling.reason) == (State.WAITING_FOR_HUMAN, "is being cancelled: enough")
    assert answered(cancelling).task.reason == "is being cancelled: enough"


def test_progress_does_not_end_the_wait() -> None:
    assert apply(asked(), Progressed(LEASE, "still here")).task.state is State.WAITING_FOR_HUMAN


# --- rate limits


def test_a_rate_limit_is_a_state_with_its_reason_and_its_time() -> None:
    step = apply(running(), RateLimited(LEASE, 160.0, "the provider said 429", 110.0))
    assert (step.task.state, step.task.state_time, step.task.limited_until) == (State.RATE_LIMITED, 110.0, 160.0)
    assert published(step) == [("task.rate_limited", "the provider said 429")]
    ended = apply(step.task, LimitEnded(LEASE, 160.0))
    assert (ended.task.state, ended.task.state_time, ended.task.limited_until) == (State.RUNNING, 160.0, None)
    assert [kind for kind, _ in published(ended)] == ["task.running"]


def test_a_longer_limit_is_the_same_state() -> None:
    first = apply(running(), RateLimited(LEASE, 160.0, "429", 110.0)).task
    longer = apply(first, RateLimited(LEASE, 260.0, "429 again", 120.0))
    assert (longer.task.state_time, longer.task.limited_until, longer.task.reason) == (110.0, 260.0, "429 again")
    assert published(longer) == []


def test_the_end_of_a_limit_there_is_not_changes_nothing() -> None:
    assert apply(running(), LimitEnded(LEASE, 110.0)) == Step(running())


def test_a_human_goes_before_a_limit_which_shows_once_the_human_has_answered() -> None:
    both = apply(asked(), RateLimited(LEASE, 300.0, "429", 115.0))
    assert (both.task.state, published(both)) == (State.WAITING_FOR_HUMAN, [])
    step = answered(both.task)
    assert (step.task.state, step.task.reason) == (State.RATE_LIMITED, "429")
    limited_first = apply(apply(running(), RateLimited(LEASE, 300.0, "429", 105.0)).task, Asked(LEASE, COLOUR, 110.0)).task
    assert limited_first.state is State.WAITING_FOR_HUMAN


def test_every_state_has_its_time() -> None:
    assert [task.state_time for task in (leased(), running())] == [101.0, 102.0]
    assert apply(running(), Completed(LEASE, Result(), 130.0, 0.5)).task.state_time == 130.0

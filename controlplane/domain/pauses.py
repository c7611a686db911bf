"""Why does a running task wait: for a human, or for the model provider? Event in, the task as it stands then out.

    RUNNING <-> WAITING_FOR_HUMAN        asked; answered, expired or withdrawn
    RUNNING <-> RATE_LIMITED             the provider takes no requests; takes them again

An open question goes before a rate limit: the state is always what `question` and `limited_until` of the task say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from claude_conductor.errors import IdempotencyConflictError, IllegalTransitionError
from controlplane.domain.question import Answer, Question, QuestionState, check_answer, check_question
from controlplane.domain.task import Lease, State, Task

_AT_WORK = frozenset({State.RUNNING, State.WAITING_FOR_HUMAN, State.RATE_LIMITED})


@dataclass(frozen=True, slots=True)
class Asked:
    """The agent asks a human. `question` is open."""

    lease: Lease
    question: Question
    at: float


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The agent does not wait for the answer any more."""

    lease: Lease
    question_id: str
    expired: bool
    at: float


@dataclass(frozen=True, slots=True)
class Answered:
    """A human answers."""

    question_id: str
    """Empty: the open one."""
    answer: Answer
    at: float


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The provider takes no requests until a time (seconds since the epoch, for people)."""

    lease: Lease
    until: float
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class LimitEnded:
    """The provider takes requests again."""

    lease: Lease
    at: float


PauseEvent = Asked | Withdrawn | Answered | RateLimited | LimitEnded


@dataclass(frozen=True, slots=True)
class Turn:
    """The task after an event, and a line about it for watchers; the same task if nothing changed."""

    task: Task
    summary: str = ""
    answered: bool = False
    """The agent has to be told."""


def turn(task: Task, event: PauseEvent) -> Turn:
    """Return what the event makes of a task that an agent works on. Whether its lease is current is the caller's to check.

    Raises:
        IllegalTransitionError: It cannot happen now.
        IdempotencyConflictError: The id stands for another question of this attempt.
        InvalidArgumentError: The question cannot be asked, or the answer does not fit it.
    """
    match event:
        case Asked(question=question):
            return _ask(task, question)
        case Answered():
            return _answer(task, event)
        case Withdrawn(question_id=question_id, expired=expired, at=at):
            state = QuestionState.EXPIRED if expired else QuestionState.WITHDRAWN
            if task.question is None or task.question.id != question_id or not task.question.open:
                return Turn(task)  # told twice, or an answer was faster
            why = "nobody answered in time" if expired else "its agent does not wait for an answer any more"
            return Turn(_stand(replace(task, question=_closed(task.question, state, at))), f"goes on: {why}")
        case RateLimited(until=until, why=why):
            if task.state not in _AT_WORK:
                raise IllegalTransitionError(task_id=task.id, state=task.state.value, event="rate limited")
            return Turn(_stand(replace(task, limited_until=until, limited_why=why)), why)
        case LimitEnded():
            if task.limited_until is None:
                return Turn(task)
            return Turn(_stand(_unlimited(task)), "goes on: the model provider takes requests again")


def left(task: Task, at: float) -> Task:
    """Return the task as its attempt leaves it: nothing is waited for any more."""
    if task.question is not None and task.question.open:
        task = replace(task, question=_closed(task.question, QuestionState.WITHDRAWN, at))
    return _unlimited(task)


def _ask(task: Task, question: Question) -> Turn:
    question, earlier = check_question(question), task.question
    if task.state not in _AT_WORK:
        raise IllegalTransitionError(task_id=task.id, state=task.state.value, event="asked")
    if earlier is not None and (earlier.id, earlier.attempt) == (question.id, question.attempt):
        if not earlier.same_as(question):
            raise IdempotencyConflictError("This id was used for a different question.", question_id=question.id)
        if earlier.open or earlier.state is QuestionState.ANSWERED:
            return Turn(task)
    elif earlier is not None and earlier.open:
        raise IllegalTransitionError("The task waits for the answer to another question.", question_id=earlier.id)
    return Turn(_stand(replace(task, question=question)), question.summary)


def _answer(task: Task, event: Answered) -> Turn:
    question, answer = task.question, event.answer
    if question is None:
        raise _refused("The task has not asked anything.", task)
    if event.question_id and event.question_id != question.id:
        raise _refused("The task asks something else by now, and waits for the answer to this question no more.", task)
    if question.answer is not None:
        if answer.request_id and answer == question.answer:
            return Turn(task)
        raise _refused(f"The question is answered already, by {question.answer.by}; the first answer counts.", task)
    if not question.open:
        how = "has expired" if question.state is QuestionState.EXPIRED else "was withdrawn: its agent does not wait any more"
        raise _refused(f"The question {how}.", task)
    check_answer(question, answer)
    answered = replace(_closed(question, QuestionState.ANSWERED, event.at), answer=answer)
    return Turn(_stand(replace(task, question=answered)), f"goes on: {answer.by} answered", answered=True)


def _refused(why: str, task: Task) -> IllegalTransitionError:
    return IllegalTransitionError(why, next_step=f"`conductor tasks show {task.id}` tells what was asked", task_id=task.id)


def _closed(question: Question, state: QuestionState, at: float) -> Question:
    return replace(question, state=state, close_time=at)


def _unlimited(task: Task) -> Task:
    return task if task.limited_until is None else replace(task, limited_until=None, limited_why="")


def _stand(task: Task) -> Task:
    """Return the task in the state, and with the reason, that its question and its rate limit make."""
    if task.question is not None and task.question.open:
        state, reason = State.WAITING_FOR_HUMAN, f"asks a human: {task.question.summary}"
    elif task.limited_until is not None:
        state, reason = State.RATE_LIMITED, task.limited_why
    else:
        state, reason = State.RUNNING, f"runs on {task.agent_id}"
    if task.cancel_reason is not None:
        reason = task.reason
    return replace(task, state=state, reason=reason)

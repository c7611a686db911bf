"""The life of a task: an event in, the new task and what has to be done out. No clock, no randomness, no I/O.

    BLOCKED -> QUEUED -> LEASED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED | TIMED_OUT | DEAD
       ^                    |         |
       +--- retry, later ---+---------+        a lost agent: back to its place in QUEUED at once, without using up a retry

FAILED is a failure that cannot be retried; DEAD is a task whose attempts are used up, by failures or by losses of its agent.

Beside RUNNING stand WAITING_FOR_HUMAN and RATE_LIMITED (`pauses`), from which it ends as from RUNNING.

Every report carries the lease it was made under; one that is not the task's current lease raises and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from claude_conductor.errors import IllegalTransitionError, StaleLeaseError
from claude_conductor.ids import AgentId, Incarnation, TaskId
from controlplane.domain import attempts, blocked, fan_out, ledger, pauses
from controlplane.domain.effects import (
    CancelChildren,
    CloseMailbox,
    Effect,
    Publish,
    SendCancellation,
    TellAsker,
    TellDependents,
    TellParent,
)
from controlplane.domain.ledger import Claimed, LedgerEvent, Reserved, ShareChanged
from controlplane.domain.merging import LandingTold, told
from controlplane.domain.pauses import Answered, Asked, LimitEnded, PauseEvent, RateLimited, Withdrawn
from controlplane.domain.task import (
    BY_A_LIMIT,
    MAX_LOSSES,
    Attempt,
    Failure,
    FailureKind,
    IsolationStatus,
    Lease,
    Result,
    State,
    Task,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Released:
    """Its delay or back-off may be over."""

    at: float


@dataclass(frozen=True, slots=True)
class DependencyEnded:
    """A task it depends on became final."""

    task_id: TaskId
    succeeded: bool
    at: float
    state: State | None = None
    """How it ended, where it is told to the group that it was part of."""
    words: str = ""
    """What came of it, for that group."""


@dataclass(frozen=True, slots=True)
class Leased:
    """It was given to an agent."""

    lease: Lease
    agent_id: AgentId
    incarnation: Incarnation
    at: float


@dataclass(frozen=True, slots=True)
class Started:
    """The agent's process runs."""

    lease: Lease
    isolation: IsolationStatus
    at: float


@dataclass(frozen=True, slots=True)
class Progressed:
    """The agent said what it is doing, or its sidecar how much it used by now."""

    lease: Lease
    text: str | None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Completed:
    """The attempt ended, one way or the other."""

    lease: Lease
    result: Result
    at: float
    jitter: float
    """0 to 1, drawn by the caller; spreads retries."""


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The sidecar that had it is gone, or its lease ended."""

    lease: Lease
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants it ended."""

    reason: str
    grace: float
    at: float


Report = Started | Progressed | Completed | AgentLost
Event = Released | DependencyEnded | Leased | Report | CancelRequested | PauseEvent | LedgerEvent | LandingTold


@dataclass(frozen=True, slots=True)
class Step:
    """The new task and what has to be done once it is saved, in this order."""

    task: Task
    effects: tuple[Effect, ...] = ()


def admit(task: Task) -> Step:
    """Decide where a newly submitted task stands: `waits_for`, `not_before` and `create_time` are set, its state is not."""
    task = replace(task, state_time=task.create_time)
    if task.spec.fan_out is not None:
        return _blocked(task, fan_out.waiting_for(task))
    if task.waits_for:
        return _blocked(task, blocked.waiting_for(task))
    if task.not_before > task.create_time:
        return _blocked(task, f"starts in {task.not_before - task.create_time:.0f} s at the earliest")
    return _queued(task, task.create_time, "waits for a free agent")


def apply(task: Task, event: Event) -> Step:
    """Return what the event makes of the task.

    Raises:
        StaleLeaseError: The event was reported under a lease that is not the task's current one.
        IllegalTransitionError: The event cannot happen in this state.
        IdempotencyConflictError, InvalidArgumentError: As `pauses.turn`.
    """
    step = _apply(task, event)
    after = step.task
    if after is task or isinstance(event, Progressed | LedgerEvent):
        return step
    effects = step.effects
    if after.lease != task.lease:
        after = pauses.left(after, event.at)
        if task.lease is not None and task.question is not None and task.question.open and after.question is not None:
            effects = (TellAsker(task.lease, task.agent_id, after.question), *effects)
    if after.state is not task.state:
        after = replace(after, state_time=event.at)
    return Step(after, effects)


def _apply(task: Task, event: Event) -> Step:
    match event:
        case LandingTold(landing=landing):
            after = told(task, event)
            return Step(after) if after is task else Step(after, (Publish(f"task.{landing.state.value}", landing.reason),))
        case Answered():
            return _pause(task, event)
        case Asked() | Withdrawn() | RateLimited() | LimitEnded():
            _check_lease(task, event.lease)
            return _pause(task, event)
        case CancelRequested():
            return _cancel(task, event)
        case Released() | DependencyEnded():
            return _unblock(task, event)
        case Reserved() | ShareChanged() | Claimed():
            return _enter(task, event)
        case Leased():
            return _lease(task, event)
        case Started() | Progressed() | Completed() | AgentLost():
            _check_lease(task, event.lease)
            return _report(task, event)


def _report(task: Task, event: Report) -> Step:
    match event:
        case Started(isolation=isolation, at=at):
            if task.state is not State.LEASED:
                return Step(task)  # told twice: harmless
            started = (*task.attempts[:-1], replace(task.attempts[-1], start_time=at))
            reason = f"runs on {task.agent_id}"
            running = replace(task, state=State.RUNNING, reason=reason, start_time=at, isolation=isolation, attempts=started)
            return Step(running, (Publish("task.running", f"started on {task.agent_id}"),))
        case Progressed(text=text, usage=usage):
            task = attempts.with_use(task, usage)
            if text is None:
                return Step(task)
            return Step(replace(task, progress=text), (Publish("task.progress", text),))
        case Completed():
            return _complete(task, event)
        case AgentLost():
            return _lose(task, event, losses=task.losses + 1)


def _enter(task: Task, event: LedgerEvent) -> Step:
    if isinstance(event, Claimed):
        _check_lease(task, event.lease)
    after = ledger.turn(task, event)
    return Step(after, (TellParent(),) if after is not task and task.state.final else ())


def _pause(task: Task, event: PauseEvent) -> Step:
    turn = pauses.turn(task, event)
    if turn.task is task:
        return Step(task)
    effects: list[Effect] = []
    if turn.answered and task.lease is not None and turn.task.question is not None:
        effects.append(TellAsker(task.lease, task.agent_id, turn.task.question))
    if turn.task.state is not task.state:
        effects.append(Publish(f"task.{turn.task.state.value}", turn.summary))
    return Step(turn.task, tuple(effects))


def _check_lease(task: Task, lease: Lease) -> None:
    if task.lease != lease or not task.state.held:
        raise StaleLeaseError(task_id=task.id, attempt=lease.attempt)


def _blocked(task: Task, reason: str) -> Step:
    return Step(replace(task, state=State.BLOCKED, reason=reason), (Publish("task.blocked", reason),))


def _queued(task: Task, at: float, reason: str) -> Step:
    queued = replace(task, state=State.QUEUED, reason=reason, queue_time=at, lease=None, incarnation=Incarnation(""))
    return Step(queued, (Publish("task.queued", reason),))


def _unblock(task: Task, event: Released | DependencyEnded) -> Step:
    if task.state is not State.BLOCKED:
        return Step(task)
    if isinstance(event, DependencyEnded):
        if event.task_id not in task.waits_for:
            return Step(task)
        if task.spec.fan_out is not None:
            return _gather(task, event)
        if not event.succeeded and not blocked.only_follows(task, event.task_id):
            failure = Failure(FailureKind.DEPENDENCY, f"{event.task_id}, which it depends on, did not succeed")
            return _end(task, State.FAILED, failure.message, event.at, Result(failure=failure))
        task = replace(task, waits_for=task.waits_for - {event.task_id})
        task = replace(task, reason=blocked.waiting_for(task))
    if task.waits_for:
        return Step(task)
    if task.not_before > event.at:
        return Step(replace(task, reason=f"starts in {task.not_before - event.at:.0f} s at the earliest"))
    return _queued(task, event.at, "waits for a free agent")


def _gather(group: Task, event: DependencyEnded) -> Step:
    ended = event.state or (State.SUCCEEDED if event.succeeded else State.FAILED)
    after = fan_out.heard(group, event.task_id, ended, event.words)
    if not after.waits_for:
        after, state, reason, result = fan_out.outcome(after)
        return _end(after, state, reason, event.at, result)
    after = replace(after, reason=fan_out.waiting_for(after))
    stopped = fan_out.stopped(after)
    return Step(after, (CancelChildren(stopped),) if stopped and not fan_out.stopped(group) else ())


def _lease(task: Task, event: Leased) -> Step:
    if task.state is not State.QUEUED:
        raise IllegalTransitionError(task_id=task.id, state=task.state.value, event="leased")
    if (nothing_left := ledger.exhausted(task, event.at)) is not None:
        return _end(task, State.FAILED, nothing_left.message, event.at, Result(failure=nothing_left))
    attempt = Attempt(event.lease.attempt, event.agent_id, event.at)
    leased = replace(
        task,
        state=State.LEASED,
        reason=f"{event.agent_id} prepares it",
        lease=event.lease,
        agent_id=event.agent_id,
        incarnation=event.incarnation,
        start_time=None,
        progress="",
        attempts=(*task.attempts, attempt),
    )
    return Step(leased, (Publish("task.leased", f"given to {event.agent_id}"),))


def _cancel(task: Task, event: CancelRequested) -> Step:
    if task.state.final:
        raise IllegalTransitionError("The task has ended already.", task_id=task.id, state=task.state.value)
    if task.lease is None:
        return _end(task, State.CANCELLED, event.reason, event.at, Result(failure=Failure(FailureKind.CANCELLED, event.reason)))
    asked = replace(task, cancel_reason=event.reason, reason=f"is being cancelled: {event.reason}")
    effects = (SendCancellation(task.lease, task.agent_id, event.grace, event.reason), CancelChildren(event.reason))
    return Step(asked, (*effects, Publish("task.cancelling", event.reason)))


def _complete(task: Task, event: Completed) -> Step:
    failure = event.result.failure
    if failure is not None and failure.kind is FailureKind.AGENT_LOST:
        # Handed back by a sidecar that stops in order. Counted only if it never ran: what no slot takes must end some day.
        lost = AgentLost(event.lease, failure.message, event.at)
        return _lose(task, lost, losses=task.losses + (task.state is State.LEASED), usage=event.result.usage)
    task = attempts.close(task, event.at, failure, event.result.usage)
    if failure is None:
        return _end(task, State.SUCCEEDED, "done", event.at, event.result)
    if task.cancel_reason is not None or failure.kind is FailureKind.CANCELLED:
        return _end(task, State.CANCELLED, task.cancel_reason or failure.message, event.at, event.result)
    if event.result.rate_limited is not None and failure.kind in BY_A_LIMIT:
        freed = replace(task, lease=None, incarnation=Incarnation(""), result=event.result)
        waits = replace(freed, not_before=event.at + event.result.rate_limited)
        return _blocked(waits, f"{attempts.LIMITED}; tries again in {event.result.rate_limited:.1f} s")
    if failure.kind is FailureKind.TIMEOUT:
        return _end(task, State.TIMED_OUT, failure.message, event.at, event.result)
    task = replace(task, failures=task.failures + 1)
    if not failure.retryable:
        return _end(task, State.FAILED, failure.message, event.at, event.result)
    if task.failures >= task.spec.retry.max_attempts:
        used_up = f"all {task.failures} attempts failed, last" if task.failures > 1 else "its only attempt failed"
        return _end(task, State.DEAD, f"{used_up}: {failure.message}", event.at, event.result)
    return _again(task, event, failure)


def _again(task: Task, event: Completed, failure: Failure) -> Step:
    """Try it again later, unless nothing is left to do it with."""
    if (nothing_left := ledger.exhausted(task, event.at)) is not None:
        why = f"{nothing_left.message} Last: {failure.message}"
        return _end(task, State.FAILED, why, event.at, replace(event.result, failure=replace(nothing_left, message=why)))
    delay = attempts.retry_delay(task.spec.retry, task.failures, event.jitter)
    reason = f"attempt {task.failures} of {task.spec.retry.max_attempts} failed ({failure.message}); tries again in {delay:.1f} s"
    freed = replace(task, lease=None, incarnation=Incarnation(""), not_before=event.at + delay, result=event.result)
    return _blocked(freed, reason)


def _lose(task: Task, event: AgentLost, *, losses: int, usage: Usage | None = None) -> Step:
    failure = Failure(FailureKind.AGENT_LOST, event.why)
    task = replace(attempts.close(task, event.at, failure, usage), losses=losses)
    if task.cancel_reason is not None:
        return _end(task, State.CANCELLED, task.cancel_reason, event.at, Result(failure=failure))
    if task.losses >= MAX_LOSSES:
        reason = f"lost its agent {task.losses} times, last: {event.why}"
        return _end(task, State.DEAD, reason, event.at, Result(failure=replace(failure, message=reason)))
    if (nothing_left := ledger.exhausted(task, event.at)) is not None:
        return _end(task, State.FAILED, nothing_left.message, event.at, Result(failure=nothing_left))
    return _queued(task, task.queue_time, f"lost its agent ({event.why}); waits for another")


def _end(task: Task, state: State, reason: str, at: float, result: Result) -> Step:
    ended = replace(
        task,
        state=state,
        reason=reason,
        end_time=at,
        result=result,
        lease=None,
        incarnation=Incarnation(""),
        waits_for=frozenset(),
    )
    told: list[Effect] = [TellParent()] if task.budget.limited and task.spec.parent_task_id else []
    effects = [*told, TellDependents(state is State.SUCCEEDED), CloseMailbox(f"the task ended: {state.value}")]
    if state is State.CANCELLED:
        effects.append(CancelChildren(reason))
    return Step(ended, (*effects, Publish(f"task.{state.value}", reason)))

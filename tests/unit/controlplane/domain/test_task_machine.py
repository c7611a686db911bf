"""The life of a task, transition by transition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.errors import IllegalTransitionError, StaleLeaseError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from controlplane.domain.attempts import retry_delay
from controlplane.domain.blocked import why_blocked
from controlplane.domain.task import (
    AGEING_SECONDS,
    BY_A_LIMIT,
    MAX_LOSSES,
    RETRYABLE,
    Failure,
    FailureKind,
    IsolationStatus,
    Lease,
    Result,
    RetryPolicy,
    Spec,
    State,
    Task,
    queue_order,
)
from controlplane.domain.task_machine import (
    AgentLost,
    CancelChildren,
    CancelRequested,
    CloseMailbox,
    Completed,
    DependencyEnded,
    Event,
    Leased,
    Progressed,
    Publish,
    Released,
    SendCancellation,
    Started,
    Step,
    TellDependents,
    admit,
    apply,
)

ID = TaskId("task_1")
A, B, C = TaskId("task_a"), TaskId("task_b"), TaskId("task_c")
AGENT = AgentId("agent-1")
LEASE = Lease(ID, 1, 111)
STALE = Lease(ID, 1, 999)
SPECIAL = {FailureKind.TIMEOUT, FailureKind.CANCELLED, FailureKind.AGENT_LOST}
ISOLATION = IsolationStatus(driver="bubblewrap")


def submitted(**changes: object) -> Task:
    plain = Task(ID, DEFAULT_TENANT, Spec(), State.QUEUED, "", create_time=100.0, submitter="operator")
    return replace(plain, **changes)  # type: ignore[arg-type]


def queued(**changes: object) -> Task:
    return admit(submitted(**changes)).task


def leased(**changes: object) -> Task:
    return apply(queued(**changes), Leased(LEASE, AGENT, Incarnation("inc"), 101.0)).task


def running(**changes: object) -> Task:
    return apply(leased(**changes), Started(LEASE, ISOLATION, 102.0)).task


def completed(kind: FailureKind | None, lease: Lease = LEASE, at: float = 110.0) -> Completed:
    failure = Failure(kind, f"it was {kind.value}") if kind else None
    return Completed(lease, Result(exit_code=0 if kind is None else 1, failure=failure), at, jitter=1.0)


def published(step: Step) -> list[str]:
    return [effect.type for effect in step.effects if isinstance(effect, Publish)]


CANCEL = CancelRequested("not needed", grace=5.0, at=120.0)


# --- submitting


def test_a_task_that_waits_for_nothing_is_queued_at_once() -> None:
    step = admit(submitted())
    assert (step.task.state, step.task.queue_time, published(step)) == (State.QUEUED, 100.0, ["task.queued"])


def test_a_task_with_dependencies_is_blocked_and_names_them() -> None:
    step = admit(submitted(waits_for=frozenset({B, A})))
    assert (step.task.state, step.task.reason) == (State.BLOCKED, "waits for 2 tasks: task_a, task_b")
    assert published(step) == ["task.blocked"]


def test_a_task_for_later_is_blocked_and_says_how_long() -> None:
    task = queued(not_before=130.0)
    assert (task.state, task.reason) == (State.BLOCKED, "starts in 30 s at the earliest")


def test_a_task_whose_time_has_come_is_queued() -> None:
    assert queued(not_before=100.0).state is State.QUEUED


# --- a provider's rate limit


def limited(kind: FailureKind, seconds: float = 30.0) -> Completed:
    return Completed(LEASE, Result(failure=Failure(kind, "exit code 1"), rate_limited=seconds), 110.0, 0.5)


@pytest.mark.parametrize("kind", sorted(BY_A_LIMIT, key=lambda kind: kind.value))
def test_an_attempt_that_a_rate_limit_ended_is_no_failure_and_is_tried_again_after_it(kind: FailureKind) -> None:
    task = apply(running(spec=Spec(retry=RetryPolicy(max_attempts=1))), limited(kind)).task
    assert (task.state, task.failures, task.not_before, task.lease) == (State.BLOCKED, 0, 140.0, None)
    assert why_blocked(task, 120.0).startswith("the model provider took no requests of its last attempt, which does not count")
    again = apply(task, Released(140.0)).task
    assert (again.state, len(again.attempts)) == (State.QUEUED, 1)


def test_what_no_limit_can_cause_is_a_failure_with_and_without_one() -> None:
    for kind in (FailureKind.OUT_OF_MEMORY, FailureKind.WORKSPACE, FailureKind.PROGRAM_MISSING):
        assert apply(running(), limited(kind)).task.state is State.FAILED
    cancelled_ = apply(running(), CANCEL).task
    assert apply(cancelled_, limited(FailureKind.EXIT_CODE)).task.state is State.CANCELLED
    assert apply(running(), Completed(LEASE, Result(rate_limited=30.0), 110.0, 0.5)).task.state is State.SUCCEEDED


# --- waiting


def test_a_blocked_task_is_queued_when_its_time_has_come_and_not_before() -> None:
    task = queued(not_before=130.0)
    early = apply(task, Released(120.0)).task
    assert (early.state, early.reason) == (State.BLOCKED, "starts in 10 s at the earliest")
    step = apply(early, Released(130.0))
    assert (step.task.state, step.task.queue_time, published(step)) == (State.QUEUED, 130.0, ["task.queued"])


def test_a_task_is_queued_when_its_last_dependency_succeeded() -> None:
    one_left = apply(queued(waits_for=frozenset({A, B})), DependencyEnded(A, succeeded=True, at=105.0)).task
    assert (one_left.state, one_left.waits_for) == (State.BLOCKED, frozenset({B}))
    task = apply(one_left, DependencyEnded(B, succeeded=True, at=106.0)).task
    assert (task.state, task.waits_for, task.queue_time) == (State.QUEUED, frozenset(), 106.0)


def test_the_reason_names_the_dependencies_that_are_left() -> None:
    task = apply(queued(waits_for=frozenset({A, B})), DependencyEnded(A, succeeded=True, at=105.0)).task
    assert task.reason == "waits for 1 task: task_b"


def test_a_task_whose_dependency_failed_fails_without_a_start() -> None:
    step = apply(queued(waits_for=frozenset({A, B})), DependencyEnded(A, succeeded=False, at=105.0))
    assert (step.task.state, step.task.end_time, step.task.waits_for) == (State.FAILED, 105.0, frozenset())
    assert step.task.result is not None
    assert step.task.result.failure is not None
    assert step.task.result.failure.kind is FailureKind.DEPENDENCY
    assert TellDependents(succeeded=False) in step.effects


def test_a_task_that_only_follows_another_begins_whatever_came_of_it() -> None:
    task = queued(waits_for=frozenset({A, B}), spec=Spec(follows=(A,), depends_on=(B,)))
    one_left = apply(task, DependencyEnded(A, succeeded=False, at=105.0)).task
    assert (one_left.state, one_left.waits_for) == (State.BLOCKED, frozenset({B}))
    both = queued(waits_for=frozenset({A}), spec=Spec(follows=(A,), depends_on=(A,)))
    assert apply(both, DependencyEnded(A, succeeded=False, at=105.0)).task.state is State.FAILED


def test_dependencies_come_before_the_delay() -> None:
    task = queued(waits_for=frozenset({A}), not_before=200.0)
    assert apply(task, Released(300.0)).task == task
    assert apply(task, DependencyEnded(A, succeeded=True, at=150.0)).task.state is State.BLOCKED
    assert apply(task, DependencyEnded(A, succeeded=True, at=250.0)).task.state is State.QUEUED


def test_news_of_a_task_it_does_not_wait_for_changes_nothing() -> None:
    task = queued(waits_for=frozenset({A}))
    assert apply(task, DependencyEnded(C, succeeded=False, at=105.0)) == Step(task)


@pytest.mark.parametrize("event", [Released(999.0), DependencyEnded(A, succeeded=False, at=999.0)])
def test_release_and_dependencies_mean_nothing_once_it_is_not_blocked(event: Event) -> None:
    for task in (queued(), leased(), running(), apply(queued(), CANCEL).task):
        assert apply(task, event) == Step(task)


# --- an agent has it


def test_a_queued_task_is_leased_to_an_agent() -> None:
    step = apply(queued(), Leased(LEASE, AGENT, Incarnation("inc"), 101.0))
    assert (step.task.state, step.task.lease, step.task.agent_id, step.task.incarnation) == (State.LEASED, LEASE, AGENT, "inc")
    assert [(one.attempt, one.agent_id, one.lease_time) for one in step.task.attempts] == [(1, AGENT, 101.0)]
    assert published(step) == ["task.leased"]


@pytest.mark.parametrize("make", [leased, running, lambda: queued(not_before=999.0), lambda: apply(queued(), CANCEL).task])
def test_nothing_but_a_queued_task_can_be_leased(make: object) -> None:
    assert callable(make)
    with pytest.raises(IllegalTransitionError):
        apply(make(), Leased(Lease(ID, 2, 222), AGENT, Incarnation("inc"), 105.0))


def test_a_leased_task_runs_once_its_process_started() -> None:
    step = apply(leased(), Started(LEASE, ISOLATION, 102.0))
    assert (step.task.state, step.task.start_time, step.task.isolation) == (State.RUNNING, 102.0, ISOLATION)
    assert step.task.attempts[-1].start_time == 102.0
    assert published(step) == ["task.running"]


def test_a_start_told_twice_is_harmless() -> None:
    assert apply(running(), Started(LEASE, ISOLATION, 999.0)) == Step(running())


def test_progress_is_shown() -> None:
    step = apply(running(), Progressed(LEASE, "reads the tests"))
    assert (step.task.progress, published(step)) == ("reads the tests", ["task.progress"])


def test_a_completed_task_succeeds_and_its_dependents_hear_of_it() -> None:
    step = apply(running(), completed(None))
    assert (step.task.state, step.task.end_time, step.task.lease, step.task.incarnation) == (State.SUCCEEDED, 110.0, None, "")
    assert step.task.attempts[-1].end_time == 110.0
    assert TellDependents(succeeded=True) in step.effects
    assert CloseMailbox("the task ended: succeeded") in step.effects
    assert published(step) == ["task.succeeded"]


def test_a_task_may_complete_before_it_was_said_to_run() -> None:
    assert apply(leased(), completed(None)).task.state is State.SUCCEEDED


@pytest.mark.parametrize("kind", sorted(RETRYABLE, key=str))
def test_a_retryable_failure_is_tried_again_after_a_pause(kind: FailureKind) -> None:
    step = apply(running(), completed(kind))
    assert (step.task.state, step.task.failures, step.task.not_before, step.task.lease) == (State.BLOCKED, 1, 111.0, None)
    assert "attempt 1 of 3" in step.task.reason
    assert apply(step.task, Released(111.0)).task.state is State.QUEUED


@pytest.mark.parametrize("kind", sorted(set(FailureKind) - RETRYABLE - SPECIAL, key=str))
def test_any_other_failure_is_final(kind: FailureKind) -> None:
    step = apply(running(), completed(kind))
    assert (step.task.state, step.task.reason, step.task.failures) == (State.FAILED, f"it was {kind.value}", 1)
    assert TellDependents(succeeded=False) in step.effects


@pytest.mark.parametrize("kind", sorted(RETRYABLE, key=str))
def test_a_task_whose_attempts_are_used_up_by_failures_is_dead(kind: FailureKind) -> None:
    step = apply(running(spec=Spec(retry=RetryPolicy(max_attempts=2)), failures=1), completed(kind))
    assert (step.task.state, step.task.failures) == (State.DEAD, 2)
    assert step.task.reason == f"all 2 attempts failed, last: it was {kind.value}"
    assert step.task.result is not None
    assert step.task.result.failure == Failure(kind, f"it was {kind.value}")
    assert TellDependents(succeeded=False) in step.effects


def test_a_task_that_was_allowed_one_attempt_says_so_when_it_is_dead() -> None:
    step = apply(running(spec=Spec(retry=RetryPolicy(max_attempts=1))), completed(FailureKind.EXIT_CODE))
    assert (step.task.state, step.task.reason) == (State.DEAD, "its only attempt failed: it was exit_code")


def test_a_failure_that_cannot_be_retried_is_a_failure_also_in_the_last_attempt() -> None:
    task = running(spec=Spec(retry=RetryPolicy(max_attempts=2)), failures=1)
    assert apply(task, completed(FailureKind.WORKSPACE)).task.state is State.FAILED


def test_a_task_that_ran_too_long_timed_out() -> None:
    assert apply(running(), completed(FailureKind.TIMEOUT)).task.state is State.TIMED_OUT


def test_a_lost_agents_task_is_queued_at_once_and_keeps_its_retries() -> None:
    step = apply(running(), AgentLost(LEASE, "its sidecar died", 110.0))
    assert (step.task.state, step.task.losses, step.task.failures) == (State.QUEUED, 1, 0)
    assert (step.task.lease, step.task.incarnation) == (None, "")
    assert step.task.attempts[-1].failure == Failure(FailureKind.AGENT_LOST, "its sidecar died")


def test_a_running_task_that_a_stopping_sidecar_hands_back_is_queued_and_counts_no_loss() -> None:
    step = apply(running(), completed(FailureKind.AGENT_LOST))

    assert (step.task.state, step.task.losses, step.task.failures) == (State.QUEUED, 0, 0)
    assert step.task.lease is None
    assert step.task.attempts[-1].failure is not None


def test_a_task_handed_back_before_it_ran_counts_a_loss_so_that_it_cannot_go_round_for_ever() -> None:
    step = apply(leased(), completed(FailureKind.AGENT_LOST))

    assert (step.task.state, step.task.losses) == (State.QUEUED, 1)


@pytest.mark.parametrize("loss", [AgentLost(LEASE, "its sidecar died", 110.0), completed(FailureKind.AGENT_LOST)])
def test_a_task_that_lost_its_agent_keeps_its_place_in_the_queue(loss: Event) -> None:
    before = running()
    after = apply(before, loss).task
    assert after.state is State.QUEUED
    assert queue_order(after) == queue_order(before) == queue_order(queued())


def test_a_task_that_failed_queues_anew_when_it_is_tried_again() -> None:
    again = apply(apply(running(), completed(FailureKind.SIGNAL)).task, Released(200.0)).task
    assert (again.state, again.queue_time) == (State.QUEUED, 200.0)


def test_a_task_that_lost_its_agent_too_often_is_dead() -> None:
    step = apply(running(losses=MAX_LOSSES - 1), AgentLost(LEASE, "out of memory", 110.0))
    assert (step.task.state, step.task.reason) == (State.DEAD, "lost its agent 5 times, last: out of memory")


# --- cancelling


@pytest.mark.parametrize("make", [queued, lambda: queued(not_before=999.0), lambda: queued(waits_for=frozenset({A}))])
def test_a_task_no_agent_has_is_cancelled_at_once(make: object) -> None:
    assert callable(make)
    step = apply(make(), CANCEL)
    assert (step.task.state, step.task.reason, step.task.end_time) == (State.CANCELLED, "not needed", 120.0)
    assert CancelChildren("not needed") in step.effects


@pytest.mark.parametrize("make", [leased, running])
def test_cancelling_a_held_task_asks_its_sidecar(make: object) -> None:
    assert callable(make)
    step = apply(make(), CANCEL)
    assert step.task.state.held
    assert step.task.cancel_reason == "not needed"
    assert step.effects[:2] == (SendCancellation(LEASE, AGENT, 5.0, "not needed"), CancelChildren("not needed"))


@pytest.mark.parametrize("end", [completed(FailureKind.SIGNAL), completed(FailureKind.TIMEOUT), AgentLost(LEASE, "gone", 121.0)])
def test_a_task_being_cancelled_ends_cancelled_however_its_attempt_ends(end: Event) -> None:
    step = apply(apply(running(), CANCEL).task, end)
    assert (step.task.state, step.task.reason) == (State.CANCELLED, "not needed")


def test_a_task_that_was_done_before_the_cancellation_arrived_succeeded() -> None:
    assert apply(apply(running(), CANCEL).task, completed(None)).task.state is State.SUCCEEDED


def test_an_agent_that_gave_up_on_its_own_account_leaves_it_cancelled() -> None:
    assert apply(running(), completed(FailureKind.CANCELLED)).task.state is State.CANCELLED


def test_a_task_that_has_ended_cannot_be_cancelled() -> None:
    with pytest.raises(IllegalTransitionError, match="has ended already"):
        apply(apply(running(), completed(None)).task, CANCEL)


# --- leases


@pytest.mark.parametrize(
    "report",
    [
        Started(STALE, ISOLATION, 105.0),
        Progressed(STALE, "x"),
        completed(None, STALE),
        AgentLost(STALE, "x", 105.0),
        completed(None, Lease(ID, 2, LEASE.epoch)),
        completed(None, Lease(TaskId("task_2"), 1, LEASE.epoch)),
    ],
)
def test_a_report_under_another_lease_is_stale(report: Event) -> None:
    for task in (queued(), leased(), running(), apply(running(), completed(None)).task):
        with pytest.raises(StaleLeaseError):
            apply(task, report)


def test_a_result_counts_once() -> None:
    done = apply(running(), completed(None)).task
    with pytest.raises(StaleLeaseError):
        apply(done, completed(None))


# --- why it waits


@pytest.mark.parametrize(
    ("task", "now", "why"),
    [
        (queued(not_before=1000.0), 100.0, "starts in 15m 0s, at 1970-01-01 00:16:40 UTC"),
        (queued(waits_for=frozenset({A}), not_before=1000.0), 100.0, "waits for 1 task: task_a"),
        (
            apply(running(), completed(FailureKind.SIGNAL)).task,
            110.5,
            "attempt 1 of 3 failed (it was signal); tries again in 500 ms, at 1970-01-01 00:01:51 UTC",
        ),
    ],
)
def test_a_blocked_task_says_what_it_waits_for_and_until_when(task: Task, now: float, why: str) -> None:
    assert why_blocked(task, now) == why


# --- numbers


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.01, 10), st.floats(10, 1000))
def test_the_pause_between_retries_doubles_up_to_its_bound_and_is_spread(
    failures: int, jitter: float, first: float, most: float
) -> None:
    policy = RetryPolicy(first_delay=first, max_delay=most)
    full = min(most, first * 2 ** min(failures - 1, 30))
    assert full / 2 <= retry_delay(policy, failures, jitter) <= full
    assert retry_delay(policy, failures, 1.0) == full
    assert retry_delay(policy, failures + 1, jitter) >= retry_delay(policy, failures, jitter)


@given(st.integers(1, 10), st.integers(1, 10), st.floats(0, 1e6), st.floats(0.001, 1e6))
def test_waiting_a_minute_for_each_step_of_priority_overtakes(low: int, high: int, ready: float, more: float) -> None:
    low, high = sorted((low, high))
    patient = submitted(spec=Spec(priority=low), queue_time=ready)
    enough = ready + (high - low) * AGEING_SECONDS + more
    assert queue_order(patient) < queue_order(submitted(spec=Spec(priority=high), queue_time=enough))


@given(st.integers(1, 9), st.floats(0, 1e6))
def test_of_two_tasks_as_old_the_one_with_more_priority_goes_first(priority: int, ready: float) -> None:
    lower, higher = (submitted(spec=Spec(priority=one), queue_time=ready) for one in (priority, priority + 1))
    assert queue_order(higher) < queue_order(lower)

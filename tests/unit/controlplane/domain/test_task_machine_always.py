"""What holds for a task whatever happens to it, in whatever order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from claude_conductor.errors import IllegalTransitionError, StaleLeaseError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId
from controlplane.domain.pauses import Answered, Asked, LimitEnded, RateLimited, Withdrawn
from controlplane.domain.question import Answer, Question
from controlplane.domain.task import (
    MAX_LOSSES,
    Failure,
    FailureKind,
    IsolationStatus,
    Lease,
    Result,
    RetryPolicy,
    Spec,
    State,
    Task,
)
from controlplane.domain.task_machine import (
    AgentLost,
    CancelRequested,
    Completed,
    DependencyEnded,
    Event,
    Leased,
    Progressed,
    Released,
    Started,
    Step,
    TellDependents,
    admit,
    apply,
)

ID = TaskId("task_1")
DEPENDENCIES = tuple(TaskId(f"task_{name}") for name in "abc")
NEXT = {
    State.BLOCKED: {State.BLOCKED, State.QUEUED, State.FAILED, State.CANCELLED},
    State.QUEUED: {State.QUEUED, State.LEASED, State.CANCELLED},
    State.LEASED: {State.LEASED, State.RUNNING, State.QUEUED, State.BLOCKED, *(state for state in State if state.final)},
}
AT_WORK = {State.RUNNING, State.WAITING_FOR_HUMAN, State.RATE_LIMITED}
NEXT |= dict.fromkeys(AT_WORK, AT_WORK | {State.QUEUED, State.BLOCKED, *(state for state in State if state.final)})
REPORTS = Started | Progressed | Completed | AgentLost | Asked | Withdrawn | RateLimited | LimitEnded
failures = st.none() | st.builds(Failure, st.sampled_from(FailureKind), st.just("why"))
seconds = st.floats(0, 500)


class AnyLife(RuleBasedStateMachine):
    """Throws events at one task, legal or not, and counts beside it what should have been counted."""

    task: Task

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.leases: list[Lease] = []
        self.failed = self.lost = self.handed_back = self.told = 0

    @initialize(
        waits_for=st.frozensets(st.sampled_from(DEPENDENCIES)),
        delay=st.sampled_from((0.0, 10.0)),
        attempts=st.integers(1, 4),
    )
    def submit(self, waits_for: frozenset[TaskId], delay: float, attempts: int) -> None:
        spec = Spec(retry=RetryPolicy(max_attempts=attempts))
        task = Task(ID, DEFAULT_TENANT, spec, State.QUEUED, "", self.now, "operator", waits_for=waits_for)
        self.task = admit(replace(task, not_before=self.now + delay if delay else 0.0)).task

    def happen(self, event: Event) -> Step | None:
        """Apply the event; return None if it was refused, and check that refusals are rightly so."""
        before = self.task
        report = isinstance(event, REPORTS)
        current = report and before.lease == event.lease  # type: ignore[union-attr]
        if report and not current:
            with pytest.raises(StaleLeaseError):
                apply(before, event)
            return None
        illegal = (isinstance(event, Leased) and before.state is not State.QUEUED) or (
            isinstance(event, CancelRequested) and before.state.final
        )
        open_now = before.question is not None and before.question.open
        illegal |= isinstance(event, Asked | RateLimited) and before.state is State.LEASED
        illegal |= isinstance(event, Asked) and open_now and event.question.id != before.question.id  # type: ignore[union-attr]
        illegal |= isinstance(event, Answered) and not open_now
        if illegal:
            with pytest.raises(IllegalTransitionError):
                apply(before, event)
            return None
        step = apply(before, event)
        if before.state.final:
            assert step == Step(before)
        else:
            assert step.task.state in NEXT[before.state]
        self.told += sum(isinstance(effect, TellDependents) for effect in step.effects)
        self.task = step.task
        return step

    def any_lease(self, draw: st.DataObject) -> Lease:
        return draw.draw(st.sampled_from([*self.leases, Lease(ID, 1, 0)]))

    @rule(pause=seconds)
    def time_passes(self, pause: float) -> None:
        self.now += pause

    @rule()
    def release(self) -> None:
        self.happen(Released(self.now))

    @rule(dependency=st.sampled_from(DEPENDENCIES), succeeded=st.booleans())
    def dependency_ends(self, dependency: TaskId, succeeded: bool) -> None:
        self.happen(DependencyEnded(dependency, succeeded, self.now))

    @rule()
    def lease(self) -> None:
        lease = Lease(ID, len(self.task.attempts) + 1, len(self.leases) + 1)
        if self.happen(Leased(lease, AgentId("agent"), Incarnation("inc"), self.now)):
            self.leases.append(lease)

    @rule(draw=st.data())
    def start(self, draw: st.DataObject) -> None:
        self.happen(Started(self.any_lease(draw), IsolationStatus(), self.now))

    @rule(draw=st.data())
    def progress(self, draw: st.DataObject) -> None:
        self.happen(Progressed(self.any_lease(draw), "on it"))

    @rule(draw=st.data(), failure=failures)
    def complete(self, draw: st.DataObject, failure: Failure | None) -> None:
        asked, ran = self.task.cancel_reason is not None, self.task.state is not State.LEASED
        step = self.happen(Completed(self.any_lease(draw), Result(failure=failure), self.now, 0.5))
        if step and failure and failure.kind is FailureKind.AGENT_LOST:
            self.lost += not ran
            self.handed_back += ran
        elif step and failure and not asked and failure.kind not in {FailureKind.CANCELLED, FailureKind.TIMEOUT}:
            self.failed += 1

    @rule(draw=st.data())
    def lose(self, draw: st.DataObject) -> None:
        self.lost += self.happen(AgentLost(self.any_lease(draw), "gone", self.now)) is not None

    @rule(draw=st.data(), name=st.sampled_from("ab"))
    def ask(self, draw: st.DataObject, name: str) -> None:
        attempt = len(self.task.attempts)
        question = Question(name, "well?", attempt, self.now, self.now + 60)
        self.happen(Asked(self.any_lease(draw), question, self.now))

    @rule()
    def answer(self) -> None:
        self.happen(Answered("", Answer("operator", "yes"), self.now))

    @rule(draw=st.data(), name=st.sampled_from("ab"), expired=st.booleans())
    def withdraw(self, draw: st.DataObject, name: str, expired: bool) -> None:
        self.happen(Withdrawn(self.any_lease(draw), name, expired, self.now))

    @rule(draw=st.data(), ends=st.booleans())
    def limit(self, draw: st.DataObject, ends: bool) -> None:
        lease = self.any_lease(draw)
        self.happen(LimitEnded(lease, self.now) if ends else RateLimited(lease, self.now + 60, "429", self.now))

    @precondition(lambda self: len(self.leases) > 1)  # rare, so that most lives get somewhere
    @rule()
    def cancel(self) -> None:
        self.happen(CancelRequested("enough", 1.0, self.now))

    @invariant()
    def counters_are_right_and_bounded(self) -> None:
        assert (self.task.failures, self.task.losses) == (self.failed, self.lost)
        assert (
            len(self.task.attempts) == len(self.leases) <= self.task.spec.retry.max_attempts + MAX_LOSSES - 1 + self.handed_back
        )
        assert self.failed <= self.task.spec.retry.max_attempts
        assert self.lost <= MAX_LOSSES

    @invariant()
    def the_parts_fit_the_state(self) -> None:
        task = self.task
        assert (task.lease is not None) == task.state.held == bool(task.incarnation)
        assert (task.end_time is not None) == task.state.final
        assert not task.waits_for or task.state is State.BLOCKED
        assert task.state is not State.BLOCKED or task.waits_for or task.not_before > 0
        assert all(one.end_time is not None for one in task.attempts[: -1 if task.state.held else None])
        assert task.reason
        assert (task.question is not None and task.question.open) == (task.state is State.WAITING_FOR_HUMAN)
        assert task.limited_until is None or task.state in {State.RATE_LIMITED, State.WAITING_FOR_HUMAN}
        assert task.state is not State.RATE_LIMITED or task.limited_until is not None
        assert task.create_time <= task.state_time <= self.now

    @invariant()
    def dependents_are_told_exactly_once(self) -> None:
        assert self.told == task_is_final(self.task)


def task_is_final(task: Task) -> int:
    return int(task.state.final)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("attempts", [1, 3, 10])
def test_a_task_whose_every_attempt_goes_wrong_ends_after_a_bounded_number_of_them(attempts: int) -> None:
    for losing in (0, 1):
        task = admit(Task(ID, DEFAULT_TENANT, Spec(retry=RetryPolicy(attempts)), State.QUEUED, "", 0.0, "operator")).task
        for number in range(1, attempts + MAX_LOSSES + 1):
            if task.state.final:
                break
            task = apply(task, Released(task.not_before)).task
            lease = Lease(ID, number, number)
            task = apply(task, Leased(lease, AgentId("a"), Incarnation("i"), 0.0)).task
            failure = Result(failure=Failure(FailureKind.EXIT_CODE, "exit code 1"))
            gone = AgentLost(lease, "gone", 0.0)
            task = apply(task, gone if losing and number % 2 else Completed(lease, failure, 0.0, 0.5)).task
        assert task.state in {State.FAILED, State.DEAD}

"""Budgets: what is carved out of a parent's, what comes back, and what a claim may hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_conductor.errors import BudgetExhaustedError, StaleLeaseError
from claude_conductor.ids import AgentId, Incarnation, TaskId, TenantId
from controlplane.domain import ledger
from controlplane.domain.budget import Budget, Spent, words
from controlplane.domain.effects import TellParent
from controlplane.domain.ledger import Claimed, Reserved, ShareChanged
from controlplane.domain.task import Failure, FailureKind, Lease, ModelUsage, Result, RetryPolicy, Spec, State, Task, Usage
from controlplane.domain.task_machine import AgentLost, Completed, Leased, Progressed, admit, apply

ONE, TWO = TaskId("task_one"), TaskId("task_two")
ALL = Budget(seconds=100.0, turns=10, tokens=1000, usd=2.0)
LEASE = Lease(TaskId("task_x"), 1, 7)


def task(budget: Budget = ALL, parent: str = "", **more: object) -> Task:
    spec = Spec(parent_task_id=parent, retry=RetryPolicy(max_attempts=3))
    made = Task(TaskId("task_x"), TenantId("t"), spec, State.BLOCKED, "", 10.0, "operator", budget=budget, **more)  # type: ignore[arg-type]
    return admit(made).task


def leased(of: Task, at: float = 20.0) -> Task:
    lease = replace(LEASE, attempt=len(of.attempts) + 1)
    return apply(of, Leased(lease, AgentId("a"), Incarnation("i"), at)).task


def use(tokens: int = 0, usd: float = 0.0, turns: int = 0, seconds: float = 1.0) -> Usage:
    return Usage(wall_seconds=seconds, input_tokens=tokens, cost_usd=usd, turns=turns)


def ended(of: Task, usage: Usage, kind: FailureKind | None = None, at: float = 30.0) -> Task:
    assert of.lease is not None
    failure = Failure(kind, "it failed") if kind is not None else None
    return apply(of, Completed(of.lease, Result(failure=failure, usage=usage), at, 0.5)).task


def test_a_subtask_gets_what_it_asks_for_and_half_of_the_rest_where_it_does_not_say() -> None:
    parent = apply(task(), Reserved(ONE, Budget(tokens=400), 10.0)).task
    assert parent.shares[0].amount == Spent(seconds=50.0, turns=5, tokens=400, usd=1.0)
    assert ledger.left(parent) == Budget(seconds=50.0, turns=5, tokens=600, usd=1.0)
    again = apply(parent, Reserved(TWO, Budget(), 10.0)).task
    assert ledger.left(again) == Budget(seconds=25.0, turns=3, tokens=300, usd=0.5)
    assert apply(again, Reserved(ONE, Budget(tokens=600), 10.0)).task is again, "it has its share already"


def test_what_the_parent_has_no_limit_for_is_the_subtasks_own_affair() -> None:
    parent = task(Budget(tokens=100))
    assert ledger.granted(parent, Budget(turns=3), 10.0) == Budget(turns=3, tokens=50)
    assert apply(parent, Reserved(ONE, Budget(turns=3), 10.0)).task.shares[0].amount == Spent(tokens=50)
    assert ledger.granted(task(Budget()), Budget(turns=3), 10.0) == Budget(turns=3)


@pytest.mark.parametrize("wanted", [Budget(tokens=601), Budget(turns=6), Budget(usd=1.01), Budget(seconds=50.1)])
def test_more_than_is_left_is_refused_and_says_what_is_left(wanted: Budget) -> None:
    parent = apply(task(), Reserved(ONE, Budget(50.0, 5, 400, 1.0), 10.0)).task
    with pytest.raises(BudgetExhaustedError, match=r"has .* left of its") as refused:
        apply(parent, Reserved(TWO, wanted, 10.0))
    assert "--budget-" in refused.value.next_step


def test_a_subtask_of_a_parent_with_one_turn_left_gets_none() -> None:
    with pytest.raises(BudgetExhaustedError):
        apply(task(Budget(turns=1)), Reserved(ONE, Budget(), 10.0))


def test_the_time_of_the_present_attempt_is_the_parents_own() -> None:
    parent = leased(task(), at=20.0)
    assert ledger.time_up(parent) == 120.0
    assert ledger.left(parent, 60.0).seconds == 60.0
    with pytest.raises(BudgetExhaustedError):
        apply(parent, Reserved(ONE, Budget(seconds=60.1), 60.0))
    with_child = apply(parent, Reserved(ONE, Budget(seconds=60.0), 60.0)).task
    assert ledger.time_up(with_child) == 60.0
    assert ledger.for_attempt(with_child).seconds == 100.0, "it may come back"
    back = apply(with_child, ShareChanged(ONE, Spent(seconds=10.0), open=False, at=70.0)).task
    assert ledger.time_up(back) == 110.0


def test_what_a_subtask_did_not_use_comes_back_once() -> None:
    parent = apply(task(), Reserved(ONE, Budget(50.0, 5, 400, 1.0), 10.0)).task
    told = ShareChanged(ONE, Spent(seconds=5.0, turns=1, tokens=100, usd=0.25), open=False, at=20.0)
    settled = apply(parent, told).task
    assert ledger.left(settled) == Budget(95.0, 9, 900, 1.75)
    assert apply(settled, told).task is settled


def test_a_subtask_whose_own_subtasks_go_on_keeps_what_those_may_use() -> None:
    parent = apply(task(), Reserved(ONE, Budget(50.0, 5, 400, 1.0), 10.0)).task
    still = apply(parent, ShareChanged(ONE, Spent(tokens=300), open=True, at=20.0)).task
    assert (ledger.left(still).tokens, [share.task_id for share in still.shares]) == (700, [ONE])


def test_a_task_tells_its_parent_when_it_ends_and_when_its_own_subtasks_end_after_it() -> None:
    running = leased(apply(task(parent="task_p"), Reserved(ONE, Budget(turns=2), 10.0)).task)
    assert running.lease is not None
    step = apply(running, Completed(running.lease, Result(usage=use(5)), 30.0, 0.5))
    assert TellParent() in step.effects
    late = apply(step.task, ShareChanged(ONE, Spent(), open=False, at=40.0))
    assert late.effects == (TellParent(),)
    with pytest.raises(BudgetExhaustedError, match="has ended"):
        apply(step.task, Reserved(TWO, Budget(turns=1), 50.0))


def test_a_claim_within_what_is_left_is_taken_and_a_larger_one_refused() -> None:
    parent = leased(apply(task(), Reserved(ONE, Budget(50.0, 5, 400, 1.0), 10.0)).task)
    claimed = apply(parent, Claimed(LEASE, use(100), Spent(turns=1, tokens=600, usd=1.0), 21.0)).task
    assert ledger.left(claimed).tokens == 0
    for more in (Spent(turns=6), Spent(tokens=601), Spent(usd=1.001)):
        with pytest.raises(BudgetExhaustedError):
            apply(claimed, Claimed(LEASE, use(100, seconds=2.0), more, 22.0))
    with pytest.raises(StaleLeaseError):
        apply(claimed, Claimed(replace(LEASE, epoch=8), use(), Spent(), 22.0))
    smaller = apply(claimed, Claimed(LEASE, use(700, seconds=3.0), Spent(tokens=600), 23.0)).task
    assert ledger.left(smaller).tokens == 0, "it used more than it claimed, and that counts"


def test_an_attempt_whose_end_nobody_reported_may_have_used_all_that_it_claimed() -> None:
    claimed = apply(leased(task()), Claimed(LEASE, use(100), Spent(turns=2, tokens=500, usd=0.5), 21.0)).task
    lost = apply(claimed, AgentLost(LEASE, "gone", 30.0)).task
    assert ledger.left(lost) == Budget(seconds=90.0, turns=8, tokens=500, usd=1.5)
    handed_back = ended(claimed, use(120, 0.1, 1))
    assert ledger.left(handed_back) == Budget(seconds=99.0, turns=9, tokens=880, usd=1.9)


def test_no_attempt_begins_with_nothing_left() -> None:
    again = ended(leased(task()), use(tokens=1000), FailureKind.EXIT_CODE)
    assert (again.state, again.result and again.result.failure and again.result.failure.kind) == (
        State.FAILED,
        FailureKind.BUDGET,
    )
    assert "Its budget of 1000 tokens is used up; raise it with --budget-tokens. Last: it failed" in again.reason
    lost = apply(leased(task(Budget(seconds=5.0))), AgentLost(LEASE, "gone", 30.0)).task
    assert lost.state is State.FAILED
    assert "5.0 s" in lost.reason
    shared = apply(task(Budget(tokens=10)), Reserved(ONE, Budget(tokens=10), 10.0)).task
    assert "or with its subtasks" in leased(shared).reason
    assert leased(shared).state is State.FAILED


def test_a_budget_failure_is_not_tried_again() -> None:
    assert ended(leased(task()), use(), FailureKind.BUDGET).state is State.FAILED


def test_answers_that_the_gateway_counted_are_the_turns_and_cached_tokens_are_free() -> None:
    model = ModelUsage("m", turns=3)
    usage = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=1000, cache_write_tokens=4, turns=1, models=(model,))
    assert ledger.spent(usage) == Spent(turns=3, tokens=7)


def test_what_is_reported_in_between_counts() -> None:
    told = apply(leased(task()), Progressed(LEASE, None, use(300))).task
    assert ledger.left(told).tokens == 700


def test_a_budget_in_words() -> None:
    assert words(Budget(90.0, 3, 4, 0.5)) == "$0.5, 4 tokens, 3 turns, 1m 30s"
    assert words(Budget()) == ""

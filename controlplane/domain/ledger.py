"""What is left of a task's budget, who may have how much of it, and what comes back?

The ledger of a task is part of the task: each entry is a change of it by compare-and-set, so that whatever runs side by side,
what is promised is never more than the budget. Three things are entered: what attempts used, what the present one may use by the
model calls that are under way (its claim), and what subtasks were given (their shares).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from claude_conductor.errors import BudgetExhaustedError
from claude_conductor.ids import TaskId
from controlplane.domain import attempts, budget
from controlplane.domain.budget import Budget, Share, Spent
from controlplane.domain.task import Attempt, Failure, FailureKind, Lease, Task, Usage

NO_TIME = "The time of its budget is used up; raise it with --budget-time."
FLAGS = {"time": "--budget-time", "turns": "--budget-turns", "tokens": "--budget-tokens", "usd": "--budget-usd"}


@dataclass(frozen=True, slots=True)
class Reserved:
    """A subtask wants a part of the budget."""

    task_id: TaskId
    wanted: Budget
    at: float


@dataclass(frozen=True, slots=True)
class ShareChanged:
    """A subtask ended, or one of its own did: this is what it used, and what those may use that go on."""

    task_id: TaskId
    spent: Spent
    open: bool
    """Some of its own subtasks go on."""
    at: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """The present attempt used this much, and may use `claim` in all with the model calls that are under way."""

    lease: Lease
    usage: Usage
    claim: Spent
    at: float


LedgerEvent = Reserved | ShareChanged | Claimed


def spent(usage: Usage) -> Spent:
    """Return what counts of a use. Where the model gateway counted, each answer of a model is a turn."""
    return Spent(
        seconds=usage.wall_seconds,
        turns=sum(model.turns for model in usage.models) or usage.turns,
        tokens=usage.input_tokens + usage.output_tokens + usage.cache_write_tokens,
        usd=usage.cost_usd,
    )


def gone(task: Task, at: float | None = None) -> Spent:
    """Return what cannot be promised to anybody any more.

    Args:
        task: Whose budget.
        at: The present attempt has its time since it was handed out until then; None: the time that was reported.
    """
    own = (_of_attempt(attempt, at) for attempt in task.attempts)
    return budget.total((task.settled, *(share.amount for share in task.shares), *own))


def used(task: Task) -> Spent:
    """Return what the task and its finished subtasks used, as far as it was reported."""
    return budget.total((task.settled, *(spent(attempt.usage) for attempt in task.attempts)))


def left(task: Task, at: float | None = None) -> Budget:
    """Return what may still be promised. `at` as in `gone`."""
    return budget.left(task.budget, gone(task, at))


def for_attempt(task: Task) -> Budget:
    """Return the most the present attempt can ever use: what is left, and what its subtasks may give back."""
    own = (_of_attempt(attempt, None) for attempt in task.attempts[:-1])
    return budget.left(task.budget, budget.total((task.settled, *own)))


def time_up(task: Task) -> float | None:
    """Return when the time of a task that an agent has will be used up, in seconds since the epoch; None: there is no limit."""
    if task.budget.seconds is None or not task.attempts:
        return None
    others = replace(task, attempts=task.attempts[:-1])
    return task.attempts[-1].lease_time + (left(others).seconds or 0.0)


def exhausted(task: Task, at: float) -> Failure | None:
    """Return the failure of a task that has nothing left to begin another attempt with; None if it has."""
    name = budget.empty(left(task, at))
    if not name:
        return None
    elsewhere = " or with its subtasks" if task.shares else ""
    limit = budget.words(budget.only(task.budget, name))
    return Failure(FailureKind.BUDGET, f"Its budget of {limit} is used up{elsewhere}; raise it with {FLAGS[name]}.")


def granted(task: Task, wanted: Budget, at: float) -> Budget:
    """Return the budget of a subtask of this task: what it wants, and half of what is left where it does not say.

    Raises:
        BudgetExhaustedError: More is wanted than is left, or the task has ended and gave back what it had.
    """
    if not task.budget.limited:
        return wanted
    if task.state.final:
        raise BudgetExhaustedError(
            "The parent task has ended, and its budget with it.", next_step="submit it without a parent", task_id=task.id
        )
    rest = left(task, at)
    given = budget.over(wanted, budget.half(rest))
    name = budget.within(budget.share_of(given, task.budget), rest) or budget.empty(given)
    if name:
        has, limit = budget.words(budget.only(rest, name)), budget.words(budget.only(task.budget, name))
        raise BudgetExhaustedError(
            f"The parent task has {has} left of its {limit}.",
            next_step=f"ask for less with {FLAGS[name]}, or give the parent more",
            task_id=task.id,
        )
    return given


def turn(task: Task, event: LedgerEvent) -> Task:
    """Return the task with the entry; the same task where it is there already.

    Raises:
        BudgetExhaustedError: There is less left than is wanted.
    """
    match event:
        case Reserved(task_id=task_id, wanted=wanted, at=at):
            if not task.budget.limited or any(share.task_id == task_id for share in task.shares):
                return task
            amount = budget.share_of(granted(task, wanted, at), task.budget)
            return replace(task, shares=(*task.shares, Share(task_id, amount)))
        case ShareChanged(task_id=task_id, spent=amount, open=still):
            return _share_changed(task, task_id, amount, still=still)
        case Claimed():
            return _claim(task, event)


def _share_changed(task: Task, task_id: TaskId, amount: Spent, *, still: bool) -> Task:
    known = next((share for share in task.shares if share.task_id == task_id), None)
    if known is None or (still and known.amount == amount):
        return task
    if still:
        now = Share(task_id, amount)
        return replace(task, shares=tuple(now if share is known else share for share in task.shares))
    others = tuple(share for share in task.shares if share is not known)
    return replace(task, shares=others, settled=budget.total((task.settled, amount)))


def _claim(task: Task, event: Claimed) -> Task:
    before = task.attempts[-1]
    task = attempts.with_use(task, event.usage)
    claim = replace(event.claim, seconds=0.0)
    if budget.larger(before.claim, claim) != before.claim:
        others = replace(task, attempts=task.attempts[:-1])
        rest = left(others)
        if name := budget.within(claim, replace(rest, seconds=None)):
            limit = budget.words(budget.only(task.budget, name))
            raise BudgetExhaustedError(
                f"What is left of the task's budget of {limit} is not enough.", next_step=f"raise it with {FLAGS[name]}"
            )
    if claim == before.claim:
        return task
    return replace(task, attempts=(*task.attempts[:-1], replace(task.attempts[-1], claim=claim)))


def _of_attempt(attempt: Attempt, at: float | None) -> Spent:
    """Return what an attempt takes. One whose end nobody reported may have used all that it claimed."""
    amount = budget.larger(spent(attempt.usage), attempt.claim)
    if at is None or attempt.end_time is not None:
        return amount
    return replace(amount, seconds=max(amount.seconds, at - attempt.lease_time))

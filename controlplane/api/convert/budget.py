"""How do budgets travel?"""

from __future__ import annotations

import math

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import task_pb2 as pb
from controlplane.api.convert.values import duration, span_of
from controlplane.domain import ledger
from controlplane.domain.budget import Budget, Spent, left, total
from controlplane.domain.task import Task


def budget_from_proto(budget: pb.Budget, field: str) -> Budget:
    """Return the limits.

    Raises:
        InvalidArgumentError: One is not above 0, or no number; the details name the field.
    """
    found = Budget(
        seconds=span_of(budget.wall_time, f"{field}.wall_time") if budget.HasField("wall_time") else None,
        turns=budget.turns if budget.HasField("turns") else None,
        tokens=budget.tokens if budget.HasField("tokens") else None,
        usd=budget.cost_usd if budget.HasField("cost_usd") else None,
    )
    parts = (("wall_time", found.seconds), ("turns", found.turns), ("tokens", found.tokens), ("cost_usd", found.usd))
    for name, value in parts:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InvalidArgumentError("A budget is a number above 0; leave it out for no limit.", field=f"{field}.{name}")
    return found


def spent_from_proto(budget: pb.Budget, field: str) -> Spent:
    """Return an amount.

    Raises:
        InvalidArgumentError: A number below 0, or none; the details name the field.
    """
    if budget.turns < 0 or budget.tokens < 0 or not (math.isfinite(budget.cost_usd) and budget.cost_usd >= 0):
        raise InvalidArgumentError("An amount is 0 or more.", field=field)
    return Spent(turns=budget.turns, tokens=budget.tokens, usd=budget.cost_usd)


def budget_to_proto(budget: Budget) -> pb.Budget | None:
    """Return the limits; None where nothing is limited."""
    if not budget.limited:
        return None
    return pb.Budget(
        wall_time=duration(budget.seconds) if budget.seconds is not None else None,
        turns=budget.turns,
        tokens=budget.tokens,
        cost_usd=budget.usd,
    )


def status_to_proto(task: Task) -> pb.BudgetStatus | None:
    """Return how the budget of a task stands; None where nothing is limited."""
    if not task.budget.limited:
        return None
    used, gone = ledger.used(task), ledger.gone(task)
    reserved = Spent(
        max(0.0, gone.seconds - used.seconds), gone.turns - used.turns, gone.tokens - used.tokens, max(0.0, gone.usd - used.usd)
    )
    return pb.BudgetStatus(
        limit=budget_to_proto(task.budget),
        used=_amount(used, task.budget),
        reserved=_amount(reserved, task.budget),
        left=budget_to_proto(left(task.budget, total((gone,)))),
    )


def _amount(spent: Spent, of: Budget) -> pb.Budget | None:
    """Return what was spent of what is limited."""
    return budget_to_proto(
        Budget(
            seconds=spent.seconds if of.seconds is not None else None,
            turns=spent.turns if of.turns is not None else None,
            tokens=spent.tokens if of.tokens is not None else None,
            usd=spent.usd if of.usd is not None else None,
        )
    )

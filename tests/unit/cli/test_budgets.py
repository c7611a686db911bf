"""Budgets in the words of the command line: said, and told."""

from __future__ import annotations

import pytest

from claude_conductor.cli import budgets, request, task_view
from claude_conductor.cli.request import Request
from claude_conductor.cli.why import sentence
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import task_pb2


def test_the_four_flags_become_a_budget() -> None:
    asked = Request(prompt="x", budget_usd="$2.50", budget_tokens="200k", budget_turns="30", budget_time="20m")
    budget = request.spec(asked).budget
    assert (budget.cost_usd, budget.tokens, budget.turns, budget.wall_time.seconds) == (2.5, 200_000, 30, 1200)
    assert not request.spec(Request(prompt="x")).HasField("budget")


@pytest.mark.parametrize(
    "wrong", [{"budget_usd": "-1"}, {"budget_usd": "0"}, {"budget_tokens": "1.5"}, {"budget_turns": "many"}, {"budget_time": "0"}]
)
def test_a_budget_of_nothing_or_nonsense_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        request.spec(Request(prompt="x", **wrong))  # type: ignore[arg-type]  # names of texts
    assert f"--{next(iter(wrong)).replace('_', '-')}" in refused.value.next_step


def test_a_task_tells_what_is_used_reserved_and_left() -> None:
    parts = {"limit": 10, "used": 3, "reserved": 2, "left": 5}
    status = {name: {"tokens": tokens} for name, tokens in parts.items()}
    task = task_pb2.Task(task_id="task_1", state=task_pb2.TASK_STATE_QUEUED, reason="waits", budget=status)
    told = "10 tokens\n3 tokens used\n2 tokens reserved for subtasks and calls under way\n5 tokens left"
    assert dict(task_view.details(task, 0.0))["budget"] == told
    assert sentence(task, [], 0.0).endswith("waits; 5 tokens of its budget of 10 tokens left")
    assert budgets.plain(task) == {"task": "task_1", **{name: {"tokens": tokens} for name, tokens in parts.items()}}
    assert budgets.told(task_pb2.Task()) == ""

"""What a measured sandbox means for its goals, and that one nobody can run is said to be left out."""

from __future__ import annotations

import pytest

from bench import isolation, sandboxes
from bench.isolation import GOALS, judge

GOOD = {
    isolation.START: [14.0, 15.0],
    isolation.START95: [30.0],
    isolation.UP: [0.5],
    isolation.DOWN: [0.2],
    isolation.IDLE: [1.0],
    isolation.CPU: [1.0],
    isolation.OOM: [120.0],
    "sandbox-runtime": [300.0],
    "bare process": [1.0, 1.1],
}

KEPT = ("sandbox-runtime", "bare process")


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.what)
def test_a_goal_is_met_by_what_the_design_asks_for_and_not_by_a_twentyfold(goal):
    assert judge(goal, GOOD, {}).verdict == "goal met"
    worse = {name: [value * 20 for value in values] for name, values in GOOD.items() if name not in KEPT}
    assert judge(goal, {**worse, **{name: GOOD[name] for name in KEPT}}, {}).verdict == "NOT MET"


@pytest.mark.parametrize("rounds", [[1.0], [1.0, 2.5]], ids=["one round", "a machine that is busy"])
def test_a_run_that_says_nothing_has_no_verdict(rounds):
    assert judge(GOALS[0], {**GOOD, "bare process": rounds}, {}).verdict.startswith("no verdict: ")


def test_a_sandbox_that_is_not_installed_is_left_out_visibly():
    of_other = next(each for each in GOALS if each.against)
    assert judge(of_other, GOOD, {"sandbox-runtime": "not installed"}).verdict == "skipped: not installed"


def test_every_other_sandbox_has_a_command_or_a_reason():
    for name, command in sandboxes.commands().items():
        assert command, name
    found, skipped = sandboxes.usable()
    assert "bare process" in found
    assert set(found) | set(skipped) == set(sandboxes.commands())

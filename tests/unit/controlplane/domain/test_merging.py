"""What a task keeps of the way of its patch to a branch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_conductor.errors import IllegalTransitionError
from controlplane.domain.landing import Landing, LandingState
from controlplane.domain.merging import LandingTold
from controlplane.domain.task import State, Task
from controlplane.domain.task_machine import Publish, Step, apply
from tests.contract.samples import task

EVICTED = Landing(LandingState.EVICTED, "main", "a" * 40, "it conflicts", "<<<<", "task_2")
DONE = task(1, state=State.SUCCEEDED, state_time=3.0)


def told(landing: Landing, at: float, of: Task = DONE) -> Step:
    return apply(of, LandingTold(landing, at))


def test_the_last_word_is_kept_with_its_time_and_the_task_stays_ended() -> None:
    evicted = told(EVICTED, 7.0)
    assert evicted.task == replace(DONE, landing=replace(EVICTED, time=7.0))
    assert evicted.effects == (Publish("task.evicted", "it conflicts"),)
    landed = told(replace(EVICTED, state=LandingState.LANDED, reason="it is on main"), 8.0, evicted.task)
    assert landed.task.landing is not None
    assert (landed.task.landing.state, landed.task.landing.time, landed.task.state_time) == (LandingState.LANDED, 8.0, 3.0)
    assert landed.effects == (Publish("task.landed", "it is on main"),)


def test_what_was_told_twice_changes_nothing_and_is_no_event() -> None:
    once = told(EVICTED, 7.0).task
    assert told(EVICTED, 9.0, once) == Step(once)


@pytest.mark.parametrize("state", [state for state in State if state is not State.SUCCEEDED])
def test_only_what_a_task_that_succeeded_changed_can_land(state: State) -> None:
    with pytest.raises(IllegalTransitionError):
        told(EVICTED, 7.0, task(1, state=state))

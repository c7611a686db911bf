"""Whatever fails and whoever dies: one lease at a time, a result counts once, in order, within caps, and every task ends.

A failing schedule is played again by the command that is printed. `CONDUCTOR_SCHEDULES` says how many are played (of more
than 10,000 a fifth, but at least these), `CONDUCTOR_SEED` from which seed on.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.playing import failures
from tests.simulation.tasks.seeds import PAST_BUGS
from tests.simulation.tasks.world import play

ASKED = int(os.environ.get("CONDUCTOR_SCHEDULES", "10000"))
SCHEDULES = min(ASKED, max(10_000, ASKED // 5))
FIRST = int(os.environ.get("CONDUCTOR_SEED", "0"))
CHUNKS = 20


@pytest.mark.parametrize("seed", PAST_BUGS, ids=lambda seed: f"{seed}: {PAST_BUGS[seed]}")
def test_a_schedule_of_tasks_that_found_a_bug_once_finds_it_no_more(seed: int) -> None:
    assert play(seed)[1] == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_promise_about_tasks_is_kept_on_every_schedule(chunk: int) -> None:
    first, end = (FIRST + SCHEDULES * edge // CHUNKS for edge in (chunk, chunk + 1))
    assert "\n".join(failures(play, range(first, end), "tests.simulation.tasks")) == ""


def test_a_seed_is_a_schedule_of_tasks() -> None:
    first, again, other = play(4)[0], play(4)[0], play(5)[0]
    assert first.happenings == again.happenings
    assert first.happenings != other.happenings
    assert len(first.happenings) > 20


def test_the_schedules_reach_what_they_are_for() -> None:
    """Without losses, refusals, retries and caps the promises would be kept by not being tried."""
    seen: set[str] = set()
    for seed in range(60):
        history, _ = play(seed)
        for happening in history.happenings:
            task = getattr(happening, "task", None)
            if task is not None:
                seen |= {task.state.value} | ({"lost"} if task.losses else set()) | ({"retried"} if task.failures > 1 else set())
            seen |= {"refused"} if getattr(happening, "taken", None) is False else set()
        seen |= {"capped"} if history.caps.types or history.caps.labels or history.caps.tenants else set()
        seen |= {"tenants"} if len({agent.tenant_id for agent in history.agents.values()}) > 1 else set()
    wanted = {"succeeded", "failed", "cancelled", "timed_out", "dead", "lost", "retried", "refused", "capped", "tenants"}
    assert wanted <= seen

"""Whatever fails and whoever dies: nothing is lost, nothing is seen twice, order is kept, and everything comes to rest.

A failing schedule is played again by the command that is printed. `CONDUCTOR_SCHEDULES` says how many are played,
`CONDUCTOR_SEED` from which seed on.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.playing import failures
from tests.simulation.seeds import PAST_BUGS
from tests.simulation.world import play

SCHEDULES = int(os.environ.get("CONDUCTOR_SCHEDULES", "10000"))
FIRST = int(os.environ.get("CONDUCTOR_SEED", "0"))
CHUNKS = 20
"""So that a run shows where it is, and two cores can share it."""


@pytest.mark.parametrize("seed", PAST_BUGS, ids=lambda seed: f"{seed}: {PAST_BUGS[seed]}")
def test_a_schedule_that_found_a_bug_once_finds_it_no_more(seed: int) -> None:
    assert play(seed)[1] == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_promise_is_kept_on_every_schedule(chunk: int) -> None:
    first, end = (FIRST + SCHEDULES * edge // CHUNKS for edge in (chunk, chunk + 1))
    assert "\n".join(failures(play, range(first, end), "tests.simulation")) == ""


def test_a_seed_is_a_schedule() -> None:
    first, again, other = play(4)[0], play(4)[0], play(5)[0]
    assert first.happenings == again.happenings
    assert first.records == again.records
    assert first.happenings != other.happenings
    assert len(first.happenings) > 20

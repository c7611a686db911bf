"""What a schedule decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_conductor.ids import DEFAULT_TENANT, ScheduleId
from controlplane.domain.schedule import (
    KEPT_FIRINGS,
    Firing,
    Move,
    Outcome,
    Overlap,
    Schedule,
    due,
    move,
    paused,
    recorded,
    request_id,
    resumed,
)
from controlplane.domain.task import Spec, State
from tests.contract.samples import START, task, task_id

FIRST = START - START % 60


def schedule(**changes: object) -> Schedule:
    made = Schedule(
        ScheduleId("schedule_1"), DEFAULT_TENANT, "nightly", "* * * * *", "UTC", Overlap.SKIP, Spec(), "operator", START
    )
    return replace(made, **{"next_time": FIRST, **changes})  # type: ignore[arg-type]


def test_a_firing_is_due_when_its_time_has_come_and_not_while_it_is_paused() -> None:
    assert due(schedule(), FIRST - 0.001) is None
    found = due(schedule(), FIRST)
    assert found is not None
    assert (found.time, found.missed, found.following) == (FIRST, 0, FIRST + 60)
    assert due(paused(schedule()), FIRST + 999) is None


def test_of_several_that_were_missed_one_is_caught_up() -> None:
    found = due(schedule(), FIRST + 190)
    assert found is not None
    assert (found.time, found.missed, found.following) == (FIRST + 180, 3, FIRST + 240)


RUNNING = task(1, state=State.RUNNING)
WAITING = task(2, state=State.BLOCKED, waits_for=frozenset({task_id(1)}))


@pytest.mark.parametrize("overlap", list(Overlap))
def test_without_a_task_that_goes_on_every_rule_submits(overlap: Overlap) -> None:
    assert move(overlap, None) == move(overlap, task(1, state=State.FAILED)) == Move(submit=True)


def test_skip_submits_nothing_beside_one_that_goes_on() -> None:
    assert move(Overlap.SKIP, RUNNING) == Move(submit=False, reason=f"{RUNNING.id} has not ended")


def test_queue_lets_one_wait_and_no_more() -> None:
    assert move(Overlap.QUEUE, RUNNING) == Move(submit=True, follows=(RUNNING.id,))
    assert not move(Overlap.QUEUE, WAITING).submit


def test_replace_ends_the_one_before_and_begins_when_all_of_it_is_over() -> None:
    assert move(Overlap.REPLACE, RUNNING) == Move(submit=True, cancel=RUNNING.id, follows=(RUNNING.id,))
    assert move(Overlap.REPLACE, WAITING) == Move(submit=True, cancel=WAITING.id, follows=(WAITING.id, RUNNING.id))


def test_the_key_of_a_firing_is_its_schedule_and_its_time() -> None:
    assert request_id(schedule(), 0.0) == "schedule_1/1970-01-01T00:00:00Z"


def test_a_firing_is_noted_and_the_next_one_follows() -> None:
    fired = recorded(schedule(), Firing(FIRST, FIRST + 1, Outcome.SUBMITTED, "task_1"), FIRST + 60)
    assert (fired.next_time, fired.last_task_id, fired.version) == (FIRST + 60, "task_1", 2)
    skipped = recorded(fired, Firing(FIRST + 60, FIRST + 60, Outcome.SKIPPED, reason="no"), FIRST + 120)
    assert (skipped.next_time, skipped.last_task_id) == (FIRST + 120, "task_1")
    assert [each.outcome for each in skipped.firings] == [Outcome.SKIPPED, Outcome.SUBMITTED]


def test_a_firing_by_hand_does_not_move_the_next_one_and_a_repeat_is_noted_once() -> None:
    by_hand = Firing(FIRST + 5, FIRST + 5, Outcome.SUBMITTED, "task_1", by_hand=True)
    fired = recorded(recorded(schedule(), by_hand, None), by_hand, None)
    assert fired.next_time == FIRST
    assert fired.firings == (by_hand,)


def test_a_pause_during_a_firing_stays_one() -> None:
    fired = recorded(paused(schedule()), Firing(FIRST, FIRST, Outcome.SUBMITTED, "task_1"), FIRST + 60)
    assert fired.paused
    assert fired.next_time is None


def test_only_the_last_firings_are_kept() -> None:
    kept = schedule()
    for number in range(KEPT_FIRINGS + 5):
        kept = recorded(kept, Firing(FIRST + number, FIRST, Outcome.SUBMITTED, f"task_{number}"), FIRST + number + 1)
    assert [each.task_id for each in kept.firings][:1] == [f"task_{KEPT_FIRINGS + 4}"]
    assert len(kept.firings) == KEPT_FIRINGS


def test_what_was_missed_during_a_pause_is_not_made_up_for() -> None:
    again = resumed(paused(schedule()), FIRST + 601)
    assert (again.paused, again.next_time) == (False, FIRST + 660)
    assert paused(paused(schedule())).version == 2
    assert resumed(again, FIRST + 999) is again

"""A bucket gives what it holds, fills steadily, and says exactly when to come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.rate import Rate, spend

RATE = Rate(per_second=10.0, burst=20.0)


def test_who_was_silent_gets_the_burst_and_then_the_rate():
    full_at, waited = 0.0, []
    for _ in range(21):
        full_at, wait = spend(RATE, full_at, 1.0, 100.0)
        waited.append(wait)

    assert waited == pytest.approx([0.0] * 20 + [0.1])
    assert spend(RATE, full_at, 1.0, 100.1)[1] == 0.0


def test_a_refusal_takes_nothing():
    full_at, _ = spend(RATE, 0.0, 15.0, 100.0)

    refused_at, wait = spend(RATE, full_at, 10.0, 100.0)

    assert (refused_at, wait) == (full_at, 0.5)
    assert spend(RATE, full_at, 5.0, 100.0)[1] == 0.0


def test_more_than_the_bucket_holds_is_given_to_a_full_one_and_paid_back_afterwards():
    full_at, wait = spend(RATE, 0.0, 50.0, 100.0)

    assert (full_at, wait) == (105.0, 0.0)
    assert round(spend(RATE, full_at, 1.0, 100.0)[1], 6) == 3.1
    assert spend(RATE, full_at, 50.0, 104.0)[1] == 1.0


def test_a_bucket_that_is_full_again_is_as_good_as_none():
    full_at, _ = spend(RATE, 0.0, 20.0, 100.0)

    assert spend(RATE, full_at, 20.0, full_at) == spend(RATE, 0.0, 20.0, full_at)


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 5)), max_size=60), st.floats(0, 1e9))
def test_nobody_gets_more_than_burst_and_rate_and_waiting_as_told_is_enough(steps: list[tuple[int, float]], start: float):
    now, full_at, taken = start, 0.0, 0.0
    for units, pause in steps:
        now += pause
        full_at, wait = spend(RATE, full_at, units, now)
        if wait:
            now += wait + 1e-6 * max(1.0, now / 1e6)  # what the clock itself cannot tell apart
            full_at, wait = spend(RATE, full_at, units, now)
        assert wait == 0.0
        taken += units
        assert taken <= RATE.burst + 40 + RATE.per_second * (now - start) + 1e-3

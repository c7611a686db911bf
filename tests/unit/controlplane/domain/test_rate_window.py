"""A window that opens again lets in so many in its first second and twice as many in each further one, whenever they ask."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.rate_window import SLOW_SECONDS, Window, closed, over, take, turn


def taken(window: Window, now: float, times: int) -> list[float]:
    moments = []
    for _ in range(times):
        window, at = take(window, now)
        moments.append(at)
    return moments


def test_turns_double_from_second_to_second() -> None:
    assert taken(Window(100.0, 1), 90.0, 8) == [100.0, 101.0, 101.5, 102.0, 102.25, 102.5, 102.75, 103.0]
    assert taken(Window(100.0, 2), 100.0, 6) == [100.0, 100.5, 101.0, 101.25, 101.5, 101.75]


def test_what_was_not_taken_in_time_is_not_saved_up() -> None:
    assert taken(Window(100.0, 1), 102.6, 3) == [102.6, 102.75, 103.0]
    assert taken(Window(100.0, 4), 100.9, 2) == [100.9, 101.0]


def test_who_wakes_up_a_little_late_for_a_turn_has_not_missed_it() -> None:
    window = Window(100.0, 1)
    for late in (100.001, 101.002, 101.503, 102.004):
        assert turn(window, late) == late
        window, _ = take(window, late)
    assert turn(window, 102.005) == 102.25


def test_a_word_about_the_same_limit_is_no_news_and_a_later_reset_begins_anew() -> None:
    window = closed(None, 100.0, 3)
    assert window == Window(100.0, 3)
    used, _ = take(window, 50.0)
    assert closed(used, 100.9, 3) is None
    assert closed(used, 20.0, 3) is None
    assert closed(used, 102.0, 3) == Window(102.0, 3)


@pytest.mark.parametrize(
    ("now", "open_again"), [(100.0, False), (100.0 + SLOW_SECONDS - 0.1, False), (100.0 + SLOW_SECONDS, True)]
)
def test_the_window_is_forgotten_once_it_is_as_open_as_before(now: float, open_again: bool) -> None:
    assert over(Window(100.0, 1), now) is open_again


@given(st.integers(1, 5), st.lists(st.floats(0.0, 2.0), max_size=200), st.floats(0.0, 5.0))
def test_no_second_has_more_turns_than_it_should_however_they_are_asked_for(
    first: int, pauses: list[float], early: float
) -> None:
    window, now = Window(1000.0, first), 1000.0 - early
    moments: list[float] = []
    for pause in pauses:
        now += pause
        expected = turn(window, now)
        window, at = take(window, now)
        assert at == expected >= now
        moments.append(at)
    assert moments == sorted(moments)
    assert all(at >= 1000.0 for at in moments)
    for second, count in Counter(math.floor(at - 1000.0) for at in moments).items():
        if second < SLOW_SECONDS:
            assert count <= first << second

"""Cron expressions in time zones."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.errors import InvalidArgumentError
from controlplane.domain import cron

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("expression", "zone", "after", "found"),
    [
        ("* * * * *", "UTC", "2026-11-23T12:00:00", "2026-11-23T12:01:00"),
        ("*/15 * * * *", "UTC", "2026-11-23T12:15:00", "2026-11-23T12:30:00"),
        ("30 2 * * MON-FRI", "UTC", "2026-11-20T12:00:00", "2026-11-23T02:30:00"),
        ("0 3 29 2 *", "UTC", "2026-11-23T12:00:00", "2028-02-29T03:00:00"),
        ("0 0 L * *", "UTC", "2026-11-23T12:00:00", "2026-11-30T00:00:00"),
        ("@daily", "UTC", "2026-11-23T12:00:00", "2026-11-24T00:00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-11-23T12:00:00", "2026-11-24T03:00:00"),
        # Clocks go from 2 to 3: what was to come in between comes right behind.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T03:00:00"),
    ],
)
def test_the_next_moment(expression: str, zone: str, after: str, found: str) -> None:
    assert cron.after(expression, zone, at(after, zone)) == at(found, zone)


def test_an_hour_that_is_there_twice_counts_once_for_a_fixed_time_and_twice_for_every_hour() -> None:
    begin, end = at("2026-10-25T00:00:00", "Europe/Berlin"), at("2026-10-25T05:00:00", "Europe/Berlin")

    def all_of(expression: str) -> list[float]:
        found, moment = list[float](), cron.after(expression, "Europe/Berlin", begin)
        while moment is not None and moment < end:
            found.append(moment)
            moment = cron.after(expression, "Europe/Berlin", moment)
        return found

    assert len(all_of("30 2 * * *")) == 1
    every_hour = all_of("30 * * * *")
    assert [later - earlier for earlier, later in itertools.pairwise(every_hour)] == [3600.0] * 5


def test_of_what_was_missed_the_last_one_is_found_and_the_others_are_counted() -> None:
    first = at("2026-11-23T03:00:00")
    assert cron.latest("0 3 * * *", "UTC", first, first) == (first, 0)
    assert cron.latest("0 3 * * *", "UTC", first, at("2026-11-26T02:00:00")) == (at("2026-11-25T03:00:00"), 2)


def test_years_of_missed_minutes_are_looked_at_from_behind() -> None:
    first, now = at("2016-11-23T03:00:00"), at("2026-11-26T02:00:30")
    assert cron.latest("* * * * *", "UTC", first, now) == (at("2026-11-26T02:00:00"), cron.MOST_COUNTED)
    assert cron.latest("* * 1 * *", "UTC", at("2016-12-01T00:00:00"), now)[0] == at("2026-11-01T23:59:00")


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "60 * * * *", "0 0 31 2 *", "0 0 * * 8", "a b c d e", "1/0 * * * *", "* * * * 1#6", "@never"],
)
def test_an_expression_that_means_nothing_is_refused(expression: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        cron.check(expression, "UTC", NOW)
    assert refused.value.details["field"] == "cron"
    assert "--cron" in refused.value.next_step


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "/etc/localtime", "a" * 5000, "\0"])
def test_a_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        cron.check("@daily", zone, NOW)
    assert refused.value.details["field"] == "time_zone"


part = st.text("0123456789*/,-#LW MONTUEa", max_size=6)


@given(st.one_of(st.text(max_size=120), st.lists(part, min_size=5, max_size=5).map(" ".join)))
def test_whatever_is_written_is_refused_or_comes_later(expression: str) -> None:
    try:
        found = cron.after(expression, "Europe/Berlin", NOW)
    except InvalidArgumentError:
        return
    assert found is None or found > NOW

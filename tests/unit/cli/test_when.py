"""When something shall begin, in the words of people."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from claude_conductor.cli.when import begin, zone_name
from claude_conductor.errors import InvalidArgumentError

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("at", "within", "found"),
    [
        ("", "", ""),
        ("13:30", "", "2026-11-23T13:30:00+01:00"),
        ("3:00", "", "2026-11-24T03:00:00+01:00"),
        ("12:00", "", "2026-11-24T12:00:00+01:00"),
        ("2026-11-24", "", "2026-11-24T00:00:00+01:00"),
        ("2026-12-01 03:00", "", "2026-12-01T03:00:00+01:00"),
        ("2026-12-01T03:00Z", "", "2026-12-01T03:00:00+00:00"),
        ("", "10m", "2026-11-23T12:10:00+01:00"),
        ("", "90", "2026-11-23T12:01:30+01:00"),
    ],
)
def test_a_time_of_day_is_the_next_one_and_a_span_begins_now(at: str, within: str, found: str) -> None:
    assert begin(at, within, NOW) == found


@pytest.mark.parametrize(
    ("at", "within", "named"),
    [
        ("25:00", "", "--at"),
        ("soon", "", "--at"),
        ("2020-01-01", "", "--at"),
        ("", "-5m", "--in"),
        ("", "tomorrow", "--in"),
    ],
)
def test_what_is_no_time_or_past_is_refused_with_its_flag(at: str, within: str, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        begin(at, within, NOW)
    assert named in refused.value.details


def test_both_flags_exclude_each_other() -> None:
    with pytest.raises(InvalidArgumentError, match="exclude"):
        begin("03:00", "1h", NOW)


def test_the_zone_is_that_of_the_environment_or_of_the_machine(tmp_path: Path) -> None:
    zones = tmp_path / "zoneinfo" / "Asia"
    zones.mkdir(parents=True)
    (zones / "Tokyo").touch()
    local = tmp_path / "localtime"
    local.symlink_to(zones / "Tokyo")
    assert zone_name({}, local) == "Asia/Tokyo"
    assert zone_name({"TZ": ":Europe/Berlin"}, local) == "Europe/Berlin"
    assert zone_name({"TZ": "EST5EDT"}, local) == "UTC"
    assert zone_name({}, tmp_path / "missing") == "UTC"

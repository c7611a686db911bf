"""A point in time is named as people name it."""

from __future__ import annotations

import datetime as dt

import pytest

from claude_conductor.cli.since import parse
from claude_conductor.errors import InvalidArgumentError

ZONE = dt.timezone(dt.timedelta(hours=9))
NOW = dt.datetime(2026, 11, 23, 6, 30, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", dt.datetime(2026, 11, 22, 6, 30, tzinfo=ZONE)),
        ("1h30m", dt.datetime(2026, 11, 23, 5, 0, tzinfo=ZONE)),
        ("today", dt.datetime(2026, 11, 23, tzinfo=ZONE)),
        (" Yesterday ", dt.datetime(2026, 11, 22, tzinfo=ZONE)),
        ("2026-11-20", dt.datetime(2026, 11, 20, tzinfo=ZONE)),
        ("2026-11-20T08:00", dt.datetime(2026, 11, 20, 8, tzinfo=ZONE)),
        ("2026-11-20T08:00+00:00", dt.datetime(2026, 11, 20, 8, tzinfo=dt.UTC)),
    ],
)
def test_spans_words_and_dates(text: str, expected: dt.datetime):
    assert parse(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "3x", "2026-13-01", "9999999d"])
def test_anything_else_is_refused_with_examples(text: str):
    with pytest.raises(InvalidArgumentError, match="no point in time") as refused:
        parse(text, NOW)
    assert "yesterday" in refused.value.next_step

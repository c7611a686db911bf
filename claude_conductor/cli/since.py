"""Since when? A point in time as people name it: a span ago, `today`, `yesterday`, or a date."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated

import typer

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.units import parse_duration

SinceOption = Annotated[str, typer.Option("--since", help="24h, 7d, today, yesterday, or a date such as 2026-11-22.")]


def parse(text: str, now: dt.datetime) -> dt.datetime:
    """Return the point in time.

    Args:
        text: A span before now (`90m`, `7d`), `today` or `yesterday` (their midnight), or a date with or without a time
            (ISO 8601).
        now: With its zone, which dates without one are in.

    Raises:
        InvalidArgumentError: It is none of these.
    """
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days: Sequence[str] = ("today", "yesterday")
    try:
        if word in days:
            return midnight - dt.timedelta(days=days.index(word))
        if word[:1].isdigit() and "-" not in word:
            return now - dt.timedelta(seconds=parse_duration(word))
        moment = dt.datetime.fromisoformat(text.strip())
        return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
    except (ValueError, OverflowError, InvalidArgumentError) as cause:
        raise InvalidArgumentError(
            "This is no point in time.", next_step="write --since 24h, 7d, today, yesterday or 2026-11-22", since=text
        ) from cause

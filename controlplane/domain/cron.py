"""At which moments does a cron expression come, in which time zone?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from claude_conductor.errors import InvalidArgumentError

FIELDS: Final = 5
MOST_CHARACTERS: Final = 100
MOST_COUNTED: Final = 1000
"""Missed moments are counted up to this."""
_SHORT: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_HOUR: Final = 3600.0


def check(expression: str, zone: str, now: float) -> None:
    """Refuse an expression that means nothing or never comes, and a zone that does not exist.

    Args:
        expression: Minute, hour, day of the month, month, day of the week, as cron(5) has them, or `@daily` and the like.
        zone: A name of the time zone database, such as `Europe/Berlin` or `UTC`.
        now: Seconds since the epoch.

    Raises:
        InvalidArgumentError: The details name the field.
    """
    _zone(zone)
    if after(expression, zone, now) is None:
        raise InvalidArgumentError(
            "A schedule with this expression would never fire.", next_step="correct --cron", field="cron", cron=expression
        )


def after(expression: str, zone: str, moment: float) -> float | None:
    """Return the first moment after this one at which the expression comes, None if it never does. Seconds since 1970.

    Clocks that are put forward or back are met as Debian's cron does: what falls into the hour that is left out comes right after
    it, what falls into the hour that is there twice comes once, unless the hour is a `*`.

    Raises:
        InvalidArgumentError: As `check`.
    """
    return next(_from(expression, zone, moment), None)


def latest(expression: str, zone: str, first: float, now: float) -> tuple[float, int]:
    """Return the last moment up to `now`, and how many came before it from `first` on, which is one of them.

    Of more than `MOST_COUNTED` only so many are counted, so that years of a closed machine take no minutes to look at.
    """
    found, count = first, 0
    for moment in itertools.islice(_from(expression, zone, first), MOST_COUNTED):
        if moment > now:
            return found, count
        found, count = moment, count + 1
    back = _HOUR
    while now - back > found:
        for moment in _from(expression, zone, now - back):
            if moment > now:
                break
            found = moment
        back *= 4
    return found, count


def _from(expression: str, zone: str, moment: float) -> Iterator[float]:
    place = _zone(zone)
    try:
        times = CronSim(_fields(expression), datetime.fromtimestamp(moment, place))
        for time in times:
            if (found := time.timestamp()) > moment:  # an hour that is there twice begins again
                yield found
    except (CronSimError, ValueError, TypeError, AssertionError, OverflowError) as cause:
        raise _wrong(expression, str(cause)) from cause


def _fields(expression: str) -> str:
    text = expression.strip()
    text = _SHORT.get(text.lower(), text)
    if len(text) > MOST_CHARACTERS or len(text.split()) != FIELDS:
        raise _wrong(expression[:MOST_CHARACTERS], "it has five fields")
    return text


def _wrong(expression: str, why: str) -> InvalidArgumentError:
    detail = f": {why[0].lower()}{why[1:]}" if why else ""
    return InvalidArgumentError(
        f"This is no cron expression{detail}.",
        next_step="write minute, hour, day of the month, month, day of the week: --cron '30 2 * * MON-FRI', or '@daily'",
        field="cron",
        cron=expression,
    )


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as cause:
        raise InvalidArgumentError(
            "There is no such time zone.",
            next_step="write a name such as Europe/Berlin, America/New_York or UTC",
            field="time_zone",
            time_zone=name[:MOST_CHARACTERS],
        ) from cause

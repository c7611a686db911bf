"""When shall it begin? A time as people name it, and the time zone they are in."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.units import parse_duration

_HOUR: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?\Z")
_LATE: Final = dt.timedelta(minutes=1)


def begin(at: str, within: str, now: dt.datetime) -> str:
    """Return the moment of `--at` or `--in` as ISO 8601 with its zone; empty if neither is given.

    Args:
        at: A time of day (the next one), or a date with or without a time (ISO 8601).
        within: A span from now on.
        now: With its zone, which times without one are in.

    Raises:
        InvalidArgumentError: Neither form, both flags, or a moment that is past.
    """
    if at and within:
        raise InvalidArgumentError("--at and --in exclude each other.", next_step="give one of the two")
    if within:
        try:
            return (now + dt.timedelta(seconds=parse_duration(within))).isoformat()
        except (InvalidArgumentError, OverflowError) as cause:
            raise InvalidArgumentError("This is no span.", next_step="write --in 10m, 1h30m or 2d", **{"--in": within}) from cause
    if not at:
        return ""
    found = _next(at.strip(), now) if _HOUR.match(at.strip()) else moment(at, now)
    if found < now - _LATE:
        raise InvalidArgumentError(
            "This time is past.", next_step="leave --at out to start now", **{"--at": found.isoformat(" ")}
        )
    return found.isoformat()


def moment(text: str, now: dt.datetime) -> dt.datetime:
    """Return a date, with or without a time and a zone, as the moment it is.

    Raises:
        InvalidArgumentError: It is none (ISO 8601).
    """
    try:
        found = dt.datetime.fromisoformat(text.strip())
        return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)
    except ValueError as cause:
        raise InvalidArgumentError(
            "This is no point in time.",
            next_step='write 2026-11-24 or "2026-11-24 03:00"; --at takes 03:00 as well',
            **{"--at": text},
        ) from cause


def _next(time: str, now: dt.datetime) -> dt.datetime:
    try:
        hour = dt.time.fromisoformat(time.zfill(5) if time.count(":") == 1 else time.zfill(8))
    except ValueError as cause:
        raise InvalidArgumentError("There is no such time of day.", next_step="write --at 03:00", **{"--at": time}) from cause
    today = dt.datetime.combine(now.date(), hour, now.tzinfo)
    return today if today > now else dt.datetime.combine(now.date() + dt.timedelta(days=1), hour, now.tzinfo)


def zone_name(environment: Mapping[str, str], localtime: Path = Path("/etc/localtime")) -> str:
    """Return the name of this machine's time zone, such as `Europe/Berlin`; `UTC` where it has none (tzset(3), localtime(5))."""
    named = environment.get("TZ", "").removeprefix(":")
    if "/" in named and not named.startswith("/"):
        return named
    if named:
        return "UTC" if not named.startswith("/") else _below_zones(Path(named))
    return _below_zones(localtime)


def _below_zones(path: Path) -> str:
    parts = path.resolve().parts
    return "/".join(parts[parts.index("zoneinfo") + 1 :]) or "UTC" if "zoneinfo" in parts else "UTC"

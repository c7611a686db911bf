"""Sizes, processor shares and durations as people write them: `512m`, `0.5`, `90s`."""

from __future__ import annotations

import re

from claude_conductor.errors import InvalidArgumentError

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*\Z", re.IGNORECASE)
_COUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([km]?)\s*\Z", re.IGNORECASE)
_MONEY = re.compile(r"\s*\$?\s*(\d+(?:\.\d+)?)\s*\Z")
_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MOST_BYTES = (1 << 63) - 1
"""What travels as a size, and what a file system can hold."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str | int) -> int:
    """Return bytes from `1g`, `512m`, `64 MiB` or a plain number; letters are powers of 1024 as podman and docker read them.

    Raises:
        InvalidArgumentError: The text is no size, or one of more than 2^63 - 1 bytes.
    """
    match = _SIZE.match(str(text))
    if match is None:
        raise InvalidArgumentError("A size is a number with k, m, g or t, such as 512m or 1.5g.", value=text)
    size = float(match[1]) * _FACTORS[match[2].lower()]
    if size > _MOST_BYTES:
        raise InvalidArgumentError("A size is less than 8388608t, which is 2^63 bytes.", value=str(text)[:40])
    return int(size)


def parse_cpus(text: str | float) -> float:
    """Return processors from `0.5` or `2`.

    Raises:
        InvalidArgumentError: Not a number, or not above 0.
    """
    try:
        cpus = float(text)
    except ValueError as cause:
        raise InvalidArgumentError("A processor share is a number such as 0.5 or 2.", value=text) from cause
    if not 0 < cpus < 1e4:
        raise InvalidArgumentError("A processor share is above 0.", value=text)
    return cpus


def parse_count(text: str | float) -> int:
    """Return a number from `30`, `200k` or `1.5m`; letters are powers of 1000.

    Raises:
        InvalidArgumentError: The text is no whole number above 0.
    """
    match = _COUNT.match(str(text))
    count = float(match[1]) * _THOUSANDS[match[2].lower()] if match is not None else 0.0
    if not 1 <= count < 1e15 or count != int(count):
        raise InvalidArgumentError("A number is above 0, such as 30, 200k or 1.5m.", value=str(text)[:40])
    return int(count)


def parse_money(text: str | float) -> float:
    """Return US dollars from `2`, `0.50` or `$2.50`.

    Raises:
        InvalidArgumentError: The text is no amount above 0.
    """
    match = _MONEY.match(str(text))
    money = float(match[1]) if match is not None else 0.0
    if not 0 < money < 1e9:
        raise InvalidArgumentError("An amount of US dollars is above 0, such as 2 or 0.50.", value=str(text)[:40])
    return money


def parse_duration(text: str | float) -> float:
    """Return seconds from `90s`, `1h30m`, `250ms` or a plain number of seconds.

    Raises:
        InvalidArgumentError: The text is no duration.
    """
    plain = str(text).strip().lower()
    try:
        seconds = float(plain)
    except ValueError:
        parts = _DURATION_PART.findall(plain)
        if not parts or "".join(number + unit for number, unit in parts) != plain:
            raise InvalidArgumentError("A duration is written like 90s, 5m, 1h30m or 250ms.", value=text) from None
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 <= seconds < 1e10:
        raise InvalidArgumentError("A duration is 0 or more.", value=text)
    return seconds


def format_size(size: int) -> str:
    """Return a size for people, such as `1.5 GiB`."""
    amount, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Return a duration for people, such as `1m 12s`, `3.4 s` or `12 ms`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"

"""When a provider that said "too many requests" can be asked again."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from agent_sidecar.gateway.headers import Header

LONGEST_RESET = 7 * 24 * 3600.0
"""Seconds; what is further away is not believed."""


def reset_seconds(headers: Iterable[Header], now: float) -> float | None:
    """Return in how many seconds the limit is lifted; None where the headers do not tell.

    `retry-after` decides (RFC 9110 section 10.2.3: seconds or a date); without it the latest reset of a limit that is used up.

    Args:
        headers: Of the answer with status 429, names in lower case.
        now: Seconds since the Unix epoch.
    """
    texts = {name.decode("ascii", "replace"): value.decode("ascii", "replace").strip() for name, value in headers}
    if "retry-after" in texts:
        return _seconds(texts["retry-after"], now)
    prefix, suffix = "anthropic-ratelimit-", "-reset"
    resets = [
        seconds
        for name, value in texts.items()
        if name.startswith(prefix) and name.endswith(suffix)
        if texts.get(name.removesuffix(suffix) + "-remaining", "0") == "0"
        if (seconds := _until(value, now)) is not None
    ]
    return max(resets, default=None)


def _seconds(text: str, now: float) -> float | None:
    try:
        return _bounded(float(text))
    except ValueError:
        try:
            return _bounded(parsedate_to_datetime(text).timestamp() - now)
        except (ValueError, OverflowError):
            return None


def _until(text: str, now: float) -> float | None:
    """Read a moment written as RFC 3339 or as seconds since the epoch."""
    try:
        return _bounded(float(text) - now)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return _bounded((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), LONGEST_RESET) if math.isfinite(seconds) else None

"""How fast may somebody go, and how long has it to wait otherwise?"""

from __future__ import annotations

from dataclasses import dataclass

_ROUNDING = 1e-6
"""Units; who comes back at the very moment it was told is let through although floating point says a hair is missing."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: it holds `burst` units at most and fills with `per_second`."""

    per_second: float
    burst: float


def spend(rate: Rate, full_at: float, units: float, now: float) -> tuple[float, float]:
    """Take units out of a bucket, or tell when they will be there.

    A bucket is one number, the time at which it will be full again: one that is full needs none and can be forgotten (the
    generic cell rate algorithm, ITU-T I.371). More units than the bucket holds are given to a full one, which is then in debt.

    Args:
        rate: Of the bucket.
        full_at: When it will be full; any time in the past means that it is.
        units: How many are wanted.
        now: The time, in seconds of the same clock.

    Returns:
        When it will be full now, and how many seconds to wait: 0 means that the units were taken, else nothing was.
    """
    if full_at <= now:  # most senders, most of the time
        return now + units / rate.per_second, 0.0
    missing = (full_at - now) * rate.per_second + min(units, rate.burst) - rate.burst
    if missing > _ROUNDING:
        return full_at, missing / rate.per_second
    return full_at + units / rate.per_second, 0.0

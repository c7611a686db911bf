"""Time as an argument: what code may ask of a clock, and the system's."""

from __future__ import annotations

import os
import time
from typing import Protocol

from claude_conductor import ids


class Clock(Protocol):
    """Tells the time; tests hand in one they move by hand."""

    def now(self) -> float:
        """Return seconds since the Unix epoch. For people and for time stamps only: it may jump."""

    def monotonic(self) -> float:
        """Return seconds that never go back; leases, time-outs and deadlines are measured in these."""


class SystemClock:
    """The operating system's clocks. `monotonic` is CLOCK_MONOTONIC, which stands still while the machine is suspended."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()


def mint_uuid7(unix_ms: int) -> bytes:
    """Return a new UUIDv7 with random bits from the operating system."""
    return ids.uuid7(unix_ms, int.from_bytes(os.urandom(10)) >> 6)


class SystemMint:
    """Mints ids from a clock and the operating system's randomness."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, prefix: str, /) -> str:
        """Return `prefix` + a new UUIDv7 in hexadecimal."""
        return prefix + mint_uuid7(int(self._clock.now() * 1000)).hex()

"""How fast something may go: a token bucket that tells how long to wait, or whether to refuse."""

from __future__ import annotations

from claude_conductor.clock import Clock


class Bucket:
    """Fills at a steady rate up to a bound.

    Args:
        rate: Units a second.
        burst: Most units at once.
        clock: Tells the time.
    """

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock.monotonic()

    def take(self, units: float) -> float:
        """Take units, going into debt if need be; return how many seconds to wait for the debt to be paid."""
        self._fill()
        self._level -= units
        return max(0.0, -self._level / self._rate)

    def allows(self, units: float) -> bool:
        """Take units if they are there; tell whether they were."""
        self._fill()
        if self._level < units:
            return False
        self._level -= units
        return True

    def missing(self, units: float) -> float:
        """Return how many seconds it takes until that many units are there."""
        self._fill()
        return max(0.0, (units - self._level) / self._rate)

    def _fill(self) -> None:
        now = self._clock.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now

"""When was an agent heard of last, and has it been silent for too long?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from claude_conductor.clock import Clock
from claude_conductor.units import format_duration

INTERVALS = 2
"""An agent that is silent for this many health check intervals is stalled."""


@dataclass(slots=True)
class Life:
    """Signs of life of one agent."""

    last: float = 0.0
    """Monotonic seconds of the last one."""
    calls: int = 0
    """Calls of the agent that wait for their answer: it is not the agent who is silent then."""

    @contextmanager
    def calling(self, clock: Clock) -> Iterator[None]:
        """Take note of a call, from its begin to its answer."""
        self.last = clock.monotonic()
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            self.last = clock.monotonic()

    def silent(self, now: float, interval: float) -> bool:
        """Decide whether nothing was heard for two intervals. Times in seconds."""
        return self.calls == 0 and now - self.last >= INTERVALS * interval

    def since(self, clock: Clock) -> str:
        """Return the time of day of the last sign of life."""
        return datetime.fromtimestamp(clock.now() - (clock.monotonic() - self.last), UTC).strftime("%H:%M:%S UTC")


def why(missed: str, life: Life, clock: Clock, interval: float) -> str:
    """Return why an agent counts as stalled; the same text for as long as it is.

    Args:
        missed: What was waited for, such as `call`.
        life: Its signs of life.
        clock: Tells the time.
        interval: `agent.health_check_interval` in seconds.
    """
    return f"no {missed} since {life.since(clock)}, over {INTERVALS} health check intervals of {format_duration(interval)}"

"""Does an agent send more messages than it may, and when may it go on?"""

from __future__ import annotations

import math
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import RateLimitedError
from claude_conductor.ids import TenantId
from controlplane.domain.rate import Rate, spend

_FEW: Final = 1024
"""Buckets that are kept without looking whether they are full again."""


class Rates:
    """A bucket per authenticated sender. One that is full again is forgotten, so memory follows who sent of late."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        """Begin with full buckets.

        Args:
            rate: Messages a second, and at once.
            clock: Whose monotonic time counts.
        """
        self._rate = rate
        self._clock = clock
        self._full_at: dict[tuple[TenantId, str], float] = {}
        self._sweep_at = _FEW

    def check(self, tenant_id: TenantId, who: str, messages: int) -> None:
        """Take messages off the sender's bucket: all of a frame or none.

        Raises:
            RateLimitedError: There are not enough; it carries how long to wait.
        """
        key = (tenant_id, who)
        now = self._clock.monotonic()
        full_at, wait = spend(self._rate, self._full_at.get(key, 0.0), messages, now)
        if wait:
            allowed = {"messages_a_second": f"{self._rate.per_second:g}", "messages_at_once": f"{self._rate.burst:g}"}
            raise RateLimitedError(messages=messages, **allowed).after(
                math.ceil(wait * 1e6) / 1e6
            )  # as it travels, never rounded down
        self._full_at[key] = full_at
        if len(self._full_at) > self._sweep_at:
            self._full_at = {each: when for each, when in self._full_at.items() if when > now}
            self._sweep_at = max(_FEW, 2 * len(self._full_at))

    def __len__(self) -> int:
        """Return how many senders are remembered."""
        return len(self._full_at)

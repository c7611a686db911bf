"""Until when does the provider take no requests with our key, and how many may go when it takes them again?"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from claude_conductor.clock import Clock


class Hold:
    """Shared by every request of one sidecar.

    While the window is closed, nothing goes. Then one request goes, and each one that the provider takes doubles how many may be
    under way at once, until nothing is held back.

    Args:
        clock: Whose monotonic time counts.
        most: Requests at once that are never held back.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._reset = 0.0
        self._turn = 0.0
        self._allowed = most
        self._under_way = 0
        self._changed = asyncio.Event()

    @property
    def reset_in(self) -> float:
        """Seconds until the provider's reset; 0: it takes requests."""
        return max(0.0, self._reset - self._clock.monotonic())

    @property
    def turn_in(self) -> float:
        """Seconds until requests may go from here; 0: now."""
        return max(0.0, max(self._reset, self._turn) - self._clock.monotonic())

    def close(self, reset: float, turn: float = 0.0) -> None:
        """Let nothing go until the reset, nor before our turn; what was known to last longer still does. Seconds from now."""
        now = self._clock.monotonic()
        self._reset = max(self._reset, now + reset)
        self._turn = max(self._turn, now + turn)
        self._allowed = 1
        self._wake()

    def take(self) -> bool:
        """Let one request go if one may; tell whether it did."""
        if self.turn_in or self._under_way >= self._allowed:
            return False
        self._under_way += 1
        return True

    def give_back(self) -> None:
        """Note that a request that went is over."""
        self._under_way -= 1
        self._wake()

    def taken(self) -> None:
        """Note that the provider took a request."""
        if self._allowed < self._most and not self.turn_in:
            self._allowed = min(self._most, 2 * self._allowed)
            self._wake()

    async def change(self) -> None:
        """Return when a request may go that may not now, or when that became later; to be asked again."""
        changed, left = self._changed, self.turn_in
        if not left and self._under_way < self._allowed:
            return  # our turn came since `take` looked at the clock; nothing else would wake us
        with suppress(TimeoutError):
            async with asyncio.timeout(left or None):
                await changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

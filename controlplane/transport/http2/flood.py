"""Which frames are cheap to send and dear to take, and how many of them are too many?

Resets (CVE-2023-44487, and CVE-2025-8671 for those a peer makes us send), pings, settings and empty data (CVE-2019-9512, -9515,
-9518). Each kind has an allowance that refills with time, and pings one for every message that travels, as clients measure the
line with them. CONTINUATION floods (CVE-2024-27316) are bounded where blocks are put together.
"""

from __future__ import annotations

from controlplane.transport.http2.codes import ErrorCode, PeerConnectionError


class Allowance:
    """So many at once, and so many a second in the long run."""

    __slots__ = ("_at", "_left", "_most", "_per_second", "_what")

    def __init__(self, what: str, most: int, per_second: float) -> None:
        self._what = what
        self._most = float(most)
        self._per_second = per_second
        self._left = float(most)
        self._at: float | None = None

    def take(self, now: float, earned: int = 0) -> None:
        """Count one more.

        Args:
            now: A time in seconds that never goes back.
            earned: How many more are in order since the last one, besides those of time.

        Raises:
            PeerConnectionError: It was one too many.
        """
        passed = 0.0 if self._at is None else now - self._at
        self._at = now
        self._left = min(self._most, self._left + passed * self._per_second + earned) - 1
        if self._left < 0:
            raise PeerConnectionError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {self._what}")


class Allowances:
    """What one connection may ask of us without any use."""

    __slots__ = ("_messages", "empty", "pings", "resets", "settings")

    def __init__(self) -> None:
        self.resets = Allowance("resets", 500, 100)
        self.pings = Allowance("pings", 500, 50)
        self.settings = Allowance("settings", 100, 10)
        self.empty = Allowance("empty frames", 100, 10)
        self._messages = 0

    def ping(self, now: float, messages: int) -> None:
        """Count a ping, on a connection over which this many messages have travelled so far.

        Raises:
            PeerConnectionError: It was one too many.
        """
        earned, self._messages = messages - self._messages, messages
        self.pings.take(now, earned)

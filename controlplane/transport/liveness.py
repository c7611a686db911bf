"""Is there still somebody at the other end of a connection?"""

from __future__ import annotations

import enum

from controlplane.transport.limits import Limits


class Verdict(enum.Enum):
    """What is to be done about a connection now."""

    FINE = enum.auto()
    ASK = enum.auto()
    """Send a ping."""
    DEAD = enum.auto()
    """End it: nobody is there."""


class Liveness:
    """Watches one connection; it is asked every so often."""

    __slots__ = ("_asked", "_began", "_blocked", "_heard", "_limits")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._began = now
        self._heard = now
        self._asked: float | None = None
        self._blocked: float | None = None
        """Since when a ping would not get through, and nothing was heard."""

    def look(self, now: float, *, ready: bool, heard: bool, blocked: bool) -> Verdict:
        """Say what is to be done.

        Args:
            now: A time in seconds that never goes back.
            ready: Whether the peer has begun to speak HTTP/2.
            heard: Whether anything came since the last look.
            blocked: Whether so much is unread that a ping would not get through; then its silence means nothing for a while.
        """
        if not ready:
            return Verdict.DEAD if now - self._began >= self._limits.handshake else Verdict.FINE
        if heard or not blocked:
            self._blocked = None
        elif self._blocked is None:
            self._blocked = now
        if heard or blocked:
            self._heard, self._asked = now, None
            stuck = self._blocked is not None and now - self._blocked >= self._limits.stuck
            return Verdict.DEAD if stuck else Verdict.FINE
        if self._asked is not None:
            return Verdict.DEAD if now - self._asked >= self._limits.answer else Verdict.FINE
        if now - self._heard < self._limits.idle:
            return Verdict.FINE
        self._asked = now
        return Verdict.ASK

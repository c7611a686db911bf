"""When is a sidecar told that its frames were taken?

At once, but for two cases in which a frame of its own can be saved, because what tells it rides on the next delivery: nobody
waits for the word about a receipt; and while each message is answered by another within a moment, the word about the first can
come with the second. That is the delayed acknowledgement of TCP (RFC 1122, 4.2.3.2) with the quick and the interactive mode of
Linux (tcp(7), TCP_QUICKACK): the mode is learned from what happens, and a word that was held back in vain ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from controlplane.service.sessions import Answer

TURN_SECONDS: Final = 0.002
"""How soon an answer comes in the interactive mode, and how long the word about a message is held back for it."""
RECEIPT_SECONDS: Final = 0.02
"""How long the word about receipts is held back."""


class Acknowledger:
    """What one sidecar has to be told of the frames it sent."""

    def __init__(self, due: Callable[[], None]) -> None:
        """Begin with nothing to tell, in the quick mode.

        Args:
            due: Called when a frame is to be written for it alone.
        """
        self._due = due
        self._sequence: int | None = None
        self._answers: list[Answer] = []
        self._at: float | None = None
        """When what is held back leaves alone, in the loop's time; None: now, or there is nothing."""
        self._timer: asyncio.TimerHandle | None = None
        self._interactive = False
        self._told_at = float("-inf")
        """When something was last told in a frame of its own, with no delivery since."""

    @property
    def answers(self) -> int:
        """How many refusals and other answers are not written yet."""
        return len(self._answers)

    def taken(self, sequence: int, answers: Sequence[Answer], *, receipts: bool) -> None:
        """Note up to where frames were taken, what is to be said of some, and whether they were nothing but receipts."""
        waited_for = self._sequence is not None and self._at is None
        self._sequence = sequence
        self._answers.extend(answers)
        if waited_for:
            return
        if answers or not (receipts or self._interactive):
            self._at = None
            self._due()
            return
        now = asyncio.get_running_loop().time()
        self._hold(now + (RECEIPT_SECONDS if receipts else TURN_SECONDS))

    def alone(self) -> tuple[int, Sequence[Answer]] | None:
        """Return what is to be written in a frame of its own now, and consider it written."""
        if self._sequence is None or self._at is not None:
            return None
        told, self._sequence = (self._sequence, self._answers), None
        self._answers = []
        self._told_at = asyncio.get_running_loop().time()
        return told

    def riding(self) -> int:
        """Return what rides on the delivery that is written now, and consider it written; 0 for nothing."""
        if self._sequence is None:
            self._interactive = self._interactive or asyncio.get_running_loop().time() - self._told_at < TURN_SECONDS
            self._told_at = float("-inf")
            return 0
        if self._answers:
            return 0
        told, self._sequence, self._at = self._sequence, None, None
        return told

    def release(self) -> None:
        """Hold nothing back any more: the sidecar has finished sending."""
        self._at = None

    def close(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hold(self, until: float) -> None:
        self._at = until if self._at is None else min(self._at, until)
        if self._timer is not None and self._timer.when() > self._at:
            self.close()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(self._at, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        if self._sequence is None or self._at is None:
            return
        if asyncio.get_running_loop().time() < self._at:  # what it was set for has left; this came later
            self._timer = asyncio.get_running_loop().call_at(self._at, self._overdue)
            return
        self._interactive = False
        self._at = None
        self._due()

"""When is the next moment at which something is due?"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.ids import TaskId

_AGAIN: Final = 5.0


class Timetable:
    """Wakes the one timer of the control plane exactly when it is needed, so that an idle control plane does nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks_at: list[float] = []
        self._message_at: float | None = None
        self._ends: dict[TaskId, float] = {}
        self.changed = asyncio.Event()
        """Set when something is due earlier than was known."""

    def expect_task(self, at: float) -> None:
        """A blocked task may start at this time (seconds since the epoch)."""
        heapq.heappush(self._tasks_at, at)
        if self._tasks_at[0] == at:
            self.changed.set()

    def expect_message(self, at: float) -> None:
        """A message expires at this time (seconds since the epoch)."""
        if self._message_at is None or at < self._message_at:
            self._message_at = at
            self.changed.set()

    def expect_lease(self) -> None:
        """A lease began."""
        self.changed.set()

    def expect_end(self, task_id: TaskId, at: float) -> None:
        """A task that an agent has may go on until then (seconds since the epoch), in place of what was said before."""
        if self._ends.get(task_id) != at:
            self._ends[task_id] = at
            self.changed.set()

    def forget_end(self, task_id: TaskId) -> None:
        """No agent has the task any more."""
        self._ends.pop(task_id, None)

    def over(self) -> Sequence[TaskId]:
        """Return the tasks that may not go on; a little later again, as their agents may not have been there to be told."""
        now = self._clock.now()
        found = [task_id for task_id, at in self._ends.items() if at <= now]
        for task_id in found:
            self._ends[task_id] = now + _AGAIN
        return found

    def tasks_due(self) -> bool:
        """Return whether a task may be due, and forget it: whoever asks looks into the store."""
        now, due = self._clock.now(), False
        while self._tasks_at and self._tasks_at[0] <= now:
            heapq.heappop(self._tasks_at)
            due = True
        return due

    def messages_due(self) -> bool:
        """Return whether a message may have expired, and forget it."""
        if self._message_at is None or self._message_at > self._clock.now():
            return False
        self._message_at = None
        return True

    def seconds_left(self, lease_deadline: float | None, longest: float) -> float:
        """Return how long nothing is due, given the earliest lease deadline in monotonic seconds."""
        left = [longest]
        if lease_deadline is not None:
            left.append(lease_deadline - self._clock.monotonic())
        first_task = self._tasks_at[0] if self._tasks_at else None
        first_end = min(self._ends.values(), default=None)
        left.extend(at - self._clock.now() for at in (first_task, self._message_at, first_end) if at is not None)
        return max(0.0, min(left))

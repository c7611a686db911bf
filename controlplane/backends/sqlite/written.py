"""Which tasks were written last, so that they need not be read and decoded again?

A task is read before each of its changes, and most changes come soon after one another. One process writes the file, so what it
committed last is what the file has.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.task import Task

DECODED_CHARACTERS = 8192
"""Size up to which tasks are remembered: the head of the queue is read again and again, and large prompts cost memory."""
_MOST = 1024


class Written:
    """The newest committed version of some tasks.

    The writing thread alone changes it, after each commit; any thread reads it. Single operations on a dict are atomic.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def get(self, task_id: str) -> Task | None:
        """Return the task as it was committed last; None if that is not remembered."""
        return self._tasks.get(task_id)

    def put(self, task: Task, characters: int) -> None:
        """Remember what was committed, `characters` long when encoded; the one that was not written for longest is forgotten."""
        self._tasks.pop(task.id, None)
        if characters > DECODED_CHARACTERS:
            return
        if len(self._tasks) >= _MOST:
            self._tasks.pop(next(iter(self._tasks)))
        self._tasks[task.id] = task

    def remove(self, task_ids: Sequence[str]) -> None:
        """Forget tasks that were removed."""
        for task_id in task_ids:
            self._tasks.pop(task_id, None)

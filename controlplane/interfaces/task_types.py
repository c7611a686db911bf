"""Where types of tasks come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.domain.task_type import TaskType


class TaskTypes(Protocol):
    """The types a task can have. What is returned is what holds at this moment: types may come, change and go meanwhile."""

    def find(self, name: str) -> TaskType | None:
        """Return the type of this canonical name; None if there is none. One that cannot be used has a `problem`."""

    def all(self) -> Sequence[TaskType]:
        """Return every type, by name; those that cannot be used too."""

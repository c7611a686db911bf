"""Which type does a task have, and what follows from it?"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from claude_conductor.errors import InvalidArgumentError, SettingsError
from controlplane.domain.task_type import TaskType, canonical
from controlplane.interfaces.task_types import TaskTypes


class Kinds:
    """Looks types of tasks up."""

    def __init__(self, types: TaskTypes) -> None:
        self._types = types

    def named(self, name: str) -> TaskType:
        """Return a type by any spelling of its name; without one, `generic`.

        Raises:
            InvalidArgumentError: There is none; names the nearest.
            SettingsError: Its file cannot be used.
        """
        kind = self._types.find(canonical(name))
        if kind is None:
            raise InvalidArgumentError(
                "There is no such type of task.", next_step=self._advice(canonical(name)), field="spec.type", type=name
            )
        if kind.problem:
            raise SettingsError(
                f"The file of this type of task cannot be used: {kind.problem}", next_step="correct the file", type=kind.name
            )
        return kind

    def all(self) -> Sequence[TaskType]:
        """Return every type, by name."""
        return self._types.all()

    def _advice(self, name: str) -> str:
        names = [kind.name for kind in self._types.all()]
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"{meant}there are: {', '.join(names)}; a file types/NAME.md in the home of the control plane adds one"

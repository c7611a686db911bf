"""Types of tasks as files: those of the package, and over them those in a folder of the user, read again when they change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from claude_conductor.errors import ConductorError
from controlplane.backends.types.type_file import LARGEST, parse, problem
from controlplane.domain.task_type import NAME, TaskType

_SUFFIX = ".md"


class TypeFolder:
    """Implements TaskTypes.

    Reading is a look at one small file, and the file itself only after it changed; it is not worth a thread.

    Args:
        folder: Of the user's own types; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built_in = resources.files("controlplane.backends.types") / "built_in"
        self._read: dict[str, tuple[tuple[int, ...], TaskType]] = {}
        """Name -> what the file looked like when it was read, and what it said."""

    def find(self, name: str) -> TaskType | None:
        """Return one type: the user's if there is one, else the package's."""
        if not NAME.fullmatch(name):
            return None
        path = self._folder / f"{name}{_SUFFIX}"
        try:
            facts = path.stat()
        except OSError:
            return self._of_package(name)
        if not stat.S_ISREG(facts.st_mode):
            return TaskType(name, file=str(path), problem=f"{path}: it is no ordinary file")
        looks = _looks(facts)
        known = self._read.get(name)
        if known is None or known[0] != looks:
            known = self._read[name] = (looks, _load(name, path))
        return known[1]

    def all(self) -> Sequence[TaskType]:
        """Return every type."""
        names = {*_names(entry.name for entry in self._built_in.iterdir())}
        if self._folder.is_dir():
            names |= {*_names(entry.name for entry in self._folder.iterdir())}
        return [kind for name in sorted(names) if (kind := self.find(name)) is not None]

    def _of_package(self, name: str) -> TaskType | None:
        known = self._read.get(name)
        if known is not None and not known[0]:
            return known[1]
        file = self._built_in / f"{name}{_SUFFIX}"
        if not file.is_file():
            self._read.pop(name, None)
            return None
        kind = parse(name, file.read_bytes(), f"{name}{_SUFFIX}")
        self._read[name] = ((), kind)
        return kind


def _names(files: Iterable[str]) -> list[str]:
    return [file.removesuffix(_SUFFIX) for file in files if file.endswith(_SUFFIX) and NAME.fullmatch(file.removesuffix(_SUFFIX))]


def _looks(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size


def _load(name: str, path: Path) -> TaskType:
    try:
        with path.open("rb") as file:
            kind = parse(name, file.read(LARGEST + 1), str(path))
    except OSError as cause:
        return TaskType(name, file=str(path), problem=f"{path}: it cannot be read: {cause.strerror}")
    except ConductorError as error:
        return TaskType(name, file=str(path), problem=problem(error))
    return TaskType(
        name, kind.template, kind.about, kind.priority, kind.timeout, kind.max_attempts, kind.isolation_level, str(path)
    )

"""How drivers look at the host's files: one narrow interface, so that tests need no host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

_ELF = b"\x7fELF"


class Finder(Protocol):
    """Answers questions about paths; never changes anything and never raises for a path that is not there."""

    def which(self, program: str) -> Path | None:
        """Return where the program is found on the search path, symbolic links not followed."""

    def is_program(self, path: Path) -> bool:
        """Tell whether the path leads to a regular file that may be executed."""

    def is_native(self, path: Path) -> bool:
        """Tell whether the path leads to an executable the kernel starts by itself (ELF), not a script."""

    def resolve(self, path: Path) -> Path:
        """Return the path with every symbolic link followed, as far as it exists."""

    def read_link(self, path: Path) -> Path | None:
        """Return where the symbolic link points (absolute, one hop); None where the path is no link."""


class HostFinder:
    """Looks at this host's file system.

    Args:
        search_path: Folders separated by colons, as in `PATH`; handed over, for only the composition root reads the environment.
    """

    def __init__(self, search_path: str) -> None:
        self._search_path = search_path

    def which(self, program: str) -> Path | None:
        """Return where the program is found on the search path, symbolic links not followed."""
        folders = [""] if "/" in program else self._search_path.split(":")
        candidates = (Path(folder, program).absolute() for folder in folders if folder or "/" in program)
        return next((path for path in candidates if self.is_program(path)), None)

    def is_program(self, path: Path) -> bool:
        """Tell whether the path leads to a regular file that may be executed."""
        try:
            return path.is_file() and os.access(path, os.X_OK)
        except OSError:
            return False

    def is_native(self, path: Path) -> bool:
        """Tell whether the path leads to an ELF executable (elf(5))."""
        if not self.is_program(path):
            return False
        try:
            with path.open("rb") as file:
                return file.read(len(_ELF)) == _ELF
        except OSError:
            return False

    def resolve(self, path: Path) -> Path:
        """Return the path with every symbolic link followed; a loop leaves it as it is."""
        try:
            return path.resolve()
        except (OSError, RuntimeError):
            return path.absolute()

    def read_link(self, path: Path) -> Path | None:
        """Return where the symbolic link points (absolute, one hop); None where the path is no link."""
        try:
            target = path.readlink()
        except OSError:
            return None
        return Path(os.path.normpath(path.parent / target))

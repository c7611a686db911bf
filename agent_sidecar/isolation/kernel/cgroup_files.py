"""How cgroups are read and written: the few file operations, behind a seam that tests can fake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class CgroupFiles(Protocol):
    """The cgroup file system, as far as isolation uses it. Every method raises OSError as the kernel does."""

    def read(self, path: Path) -> str:
        """Return the file's text."""

    def write(self, path: Path, text: str) -> None:
        """Put the text into the file by a single system call, as control files want it."""

    def make(self, path: Path) -> None:
        """Create a group."""

    def remove(self, path: Path) -> None:
        """Remove an empty group."""

    def exists(self, path: Path) -> bool:
        """Tell whether the group or file is there."""

    def children(self, path: Path) -> tuple[str, ...]:
        """Return the names of the groups below."""

    def writable(self, path: Path) -> bool:
        """Tell whether this process may write the file or create groups in the group."""


class SystemCgroupFiles:
    """The kernel's own cgroup file system."""

    def read(self, path: Path) -> str:
        """Return the file's text."""
        return path.read_text()

    def write(self, path: Path, text: str) -> None:
        """Write the text at once."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def make(self, path: Path) -> None:
        """Create a group."""
        path.mkdir()

    def remove(self, path: Path) -> None:
        """Remove an empty group."""
        path.rmdir()

    def exists(self, path: Path) -> bool:
        """Tell whether the group or file is there."""
        return path.exists()

    def children(self, path: Path) -> tuple[str, ...]:
        """Return the names of the groups below."""
        with os.scandir(path) as entries:
            return tuple(sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False)))

    def writable(self, path: Path) -> bool:
        """Tell whether this process may write there, by its effective ids."""
        return os.access(path, os.W_OK, effective_ids=True)

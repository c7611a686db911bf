"""How is a tree walked that an agent may have made to harm whoever walks it? By descriptors, no link followed. Blocking.

No recursion, and never more than two descriptors: an agent can nest folders deeper than either would last.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEEPEST: Final = 2048
"""Levels of folders: below that no path names a file (PATH_MAX of limits.h is 4096 bytes, and a level has at least two)."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder."""

    descriptor: int
    """Of the folder; open until the next entry is asked for."""
    name: str
    folder: bool
    """Whether it is a folder itself; a link to one is none."""
    depth: int
    """0 for what is in the root itself."""


def entries(root: Path) -> Iterator[Entry]:
    """Yield what is below a folder, each folder before what is in it, the files of a folder before its folders.

    Raises:
        OSError: A folder cannot be read (it may be made readable when it is yielded), or they are nested deeper than DEEPEST.
    """
    here = os.open(root, _FOLDER)
    left: list[list[str]] = []  # of each folder on the way down, the folders that are still to be entered
    identities: list[tuple[int, int]] = []
    try:
        while True:
            below: list[str] = []
            with os.scandir(here) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    else:
                        yield Entry(here, entry.name, folder=False, depth=len(left))
            left.append(below)
            identities.append(_identity(here))
            while not left[-1]:
                left.pop()
                identities.pop()
                if not left:
                    return
                here = _climb(here, identities[-1], root)
            if len(left) > DEEPEST:
                raise OSError(errno.ENAMETOOLONG, f"folders are nested more than {DEEPEST} levels deep", str(root))
            name = left[-1].pop()
            yield Entry(here, name, folder=True, depth=len(left) - 1)
            here = _enter(here, name)
    finally:
        os.close(here)


def unlink(root: Path) -> None:
    """Remove a folder and everything in it, however deep: what is kept in memory is 16 bytes a level.

    Raises:
        OSError: Something cannot be read or removed, or is moved at the same time.
    """
    here = os.open(root, _FOLDER)
    way = array("Q")  # device and number of each folder on the way down
    try:
        while True:
            if (name := _first_full_folder(here)) is not None:
                way.extend(_identity(here))
                here = _enter(here, name)
            elif way:
                number, device = way.pop(), way.pop()
                here = _climb(here, (device, number), root)
            else:
                break
    finally:
        os.close(here)
    root.rmdir()


def _first_full_folder(here: int) -> str | None:
    """Remove what can be removed at once; return a folder that has something in it, or None once nothing is left."""
    removed = True
    while removed:  # what is removed while a folder is read may hide something from the reading
        removed = False
        with os.scandir(here) as found:
            for entry in found:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=here)
                else:
                    try:
                        os.rmdir(entry.name, dir_fd=here)
                    except OSError as error:
                        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                            raise
                        return entry.name
                removed = True
    return None


def _enter(here: int, name: str) -> int:
    below = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return below


def _climb(here: int, parent: tuple[int, int], root: Path) -> int:
    above = os.open("..", _FOLDER, dir_fd=here)
    if _identity(above) != parent:
        os.close(above)
        raise OSError(errno.ESTALE, "a folder was moved while it was read", str(root))
    os.close(here)
    return above


def _identity(descriptor: int) -> tuple[int, int]:
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino

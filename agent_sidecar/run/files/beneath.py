"""How a path below a folder is opened that an agent may have filled with links: component by component, following none.

Each step opens one name relative to the folder before it with O_NOFOLLOW (openat(2)), so a symbolic link, however it is placed or
swapped, ends in an error and never outside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def folder(root: int, names: list[bytes], *, make: bool = False) -> Iterator[int]:
    """Open the folder `names` leads to below the folder `root` is open on.

    Args:
        root: Descriptor of the outermost folder; stays open.
        names: One component each; none of them `..`, `.` or empty.
        make: Make folders that are missing, with mode 0755.

    Raises:
        OSError: A component is missing, no folder, or a symbolic link.
    """
    current = os.dup(root)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):  # what it is shows when it is opened
                    os.mkdir(name, 0o755, dir_fd=current)
            deeper = os.open(name, _FOLDER, dir_fd=current)
            os.close(current)
            current = deeper
        yield current
    finally:
        os.close(current)


def split(path: bytes) -> list[bytes] | None:
    """Return the components of a relative path; None if it is absolute or leaves its folder."""
    names = path.split(b"/")
    return None if any(name in (b"", b".", b"..") for name in names) else names


def write(root: int, path: bytes, content: bytes) -> None:
    """Write a file below `root`, making its folders and replacing what is there.

    Raises:
        OSError: A component is a symbolic link or no folder, or the disk does not take it.
    """
    names = split(path)
    if names is None:
        raise OSError(22, "not a path below the folder", os.fsdecode(path))
    with folder(root, names[:-1], make=True) as parent:
        with suppress(FileNotFoundError):
            os.unlink(names[-1], dir_fd=parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(names[-1], flags, 0o644, dir_fd=parent), "wb") as file:
            file.write(content)

"""How are the logs of the supervised programs kept small, and what did a program say last?"""

from __future__ import annotations

import contextlib
import os

LOG_BYTES = 10 << 20
"""A log is rotated when it is larger than this."""
LOG_FILES = 3
"""The log itself and its predecessors `.1` and `.2`."""
CHECK_EVERY = 15.0
"""Seconds between two looks at the sizes; a log can be larger than LOG_BYTES by what is written in between."""

_TAIL_BYTES = 4096
_TAIL_LINES = 20


def open_log(path: str) -> int:
    """Open a log for appending, readable by this user only."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def size(path: str) -> int:
    """Return the size of a log in bytes; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def rotate(path: str, bound: int = LOG_BYTES, files: int = LOG_FILES) -> bool:
    """Copy a log that is too large to `.1`, older ones one further, and cut it to nothing.

    Copying and cutting needs nothing of the program that writes: it holds the file open for appending, goes on at the
    new end, and goes on writing if the supervisor dies (a pipe through the supervisor would break then). Lines written
    between copy and cut are lost. Only the last `bound` bytes are kept. On a full disk the copy is given up and the log
    is cut all the same, because that is what frees the disk.

    Returns:
        Whether it was rotated.
    """
    length = size(path)
    if length <= bound:
        return False
    with contextlib.suppress(OSError):  # full disk: see above
        for age in range(files - 2, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}.{age}", f"{path}.{age + 1}")
        _copy(path, f"{path}.1", max(0, length - bound))
    os.truncate(path, 0)
    return True


def _copy(source: str, target: str, offset: int) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            left = os.fstat(reader).st_size - offset
            while left > 0 and (sent := os.sendfile(writer, reader, offset, left)):
                offset, left = offset + sent, left - sent
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def tail(path: str, since: int = 0) -> tuple[str, ...]:
    """Return the last lines of a log, at most 20 lines and 4 KiB.

    Args:
        path: The log.
        since: Offset before which nothing is of interest; ignored if the log was cut meanwhile.
    """
    try:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= length else 0, length - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-_TAIL_LINES:])

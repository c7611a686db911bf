"""Which messages did an earlier command fetch and die before it printed them?

A fetch is named before it is made, in a file that its process keeps locked and removes once everything is printed. A file nobody
has locked was left behind by a process that was killed: its fetch is made again under the same name, and answered with the same
messages (`FetchRequest.request_id`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_FILES: Final = 8
"""As many answers as the sidecar can repeat; more commands at once fetch without a file."""
_LONGEST: Final = 64
"""Bytes of a name."""
_PRINTING: Final = "!"
"""Behind the name, from when it is being printed on."""


class Claim:
    """The name of one fetch, until its messages are printed or the process ends."""

    def __init__(self, request_id: str, path: Path | None = None, file: int = -1, *, perhaps_printed: bool = False) -> None:
        self.request_id = request_id
        self.perhaps_printed = perhaps_printed
        """Whether an earlier process died while it printed what came."""
        self._path = path
        self._file = file

    @classmethod
    def make(cls, folder: Path, socket: str, request_id: str) -> Self:
        """Return what an earlier process left, else a new claim; without a folder to write in, one that does not outlive us.

        Args:
            folder: For temporary files.
            socket: Of the agent; agents may share the folder.
            request_id: Of a new one; ASCII.
        """
        owner = hashlib.sha256(f"{os.geteuid()} {os.path.abspath(socket)}".encode()).hexdigest()[:16]  # noqa: PTH100 - no links
        paths = [folder / f"conductor-inbox-{owner}-{number}" for number in range(_FILES)]
        for path in paths:
            if path.exists() and (file := _lock(path)) >= 0:
                left = os.pread(file, _LONGEST, 0).decode("ascii", "replace")
                if left:
                    return cls(left.removesuffix(_PRINTING), path, file, perhaps_printed=left.endswith(_PRINTING))
                os.close(file)
        for path in paths:
            if (file := _lock(path)) >= 0:
                with suppress(OSError):  # a full disk: then it does not outlive us
                    os.pwrite(file, request_id.encode("ascii"), 0)
                return cls(request_id, path, file)
        return cls(request_id)

    def printing(self) -> None:
        """Note that printing begins."""
        if self._path is not None and not self.perhaps_printed:
            with suppress(OSError):
                os.pwrite(self._file, (self.request_id + _PRINTING).encode("ascii"), 0)

    def printed(self) -> None:
        """Let it go: what it brought has been shown."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._path = None


def _lock(path: Path) -> int:
    """Return the file, locked; -1 if somebody else has it, or it is not ours to have."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError:
        return -1
    with suppress(OSError):  # it is locked, or its holder has just removed it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.fstat(file)
        if ours.st_uid == os.geteuid() and os.path.samestat(ours, path.stat()):
            return file
    os.close(file)
    return -1

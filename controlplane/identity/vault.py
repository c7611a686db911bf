"""Where does the authority lie? In a folder of the home, its keys readable by this user only, each change whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from claude_conductor.errors import CertificateError, HomeUnusableError
from controlplane.identity.authority import Authority

_FILES: Final = {
    "root": "root.pem",
    "root_key": "root.key",
    "intermediate": "intermediate.pem",
    "intermediate_key": "intermediate.key",
    "old_roots": "old-roots.pem",
    "cross": "cross.pem",
}
_OPTIONAL: Final = frozenset({"root_key", "old_roots", "cross"})
_PRESENT: Final = "present"


class Vault:
    """The folder of an authority. Each generation is a folder of its own; the link `present` names the one in force."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Authority | None:
        """Return what is there; None: nothing yet.

        Raises:
            CertificateError: A file is missing, unreadable, or readable by others.
        """
        present = self._folder / _PRESENT
        if not present.is_symlink():
            return None
        return Authority(**{name: self._file(present / file, required=name not in _OPTIONAL) for name, file in _FILES.items()})

    def write(self, authority: Authority) -> None:
        """Put this in the place of what is there; durable when it returns.

        Raises:
            HomeUnusableError: The folder cannot be written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            last = (self._folder / _PRESENT).readlink().name if (self._folder / _PRESENT).is_symlink() else ""
            name = f"generation-{max((_number(each.name) for each in self._folder.iterdir()), default=0) + 1}"
            generation = self._folder / name
            generation.mkdir(mode=0o700)
            for field, file in _FILES.items():
                _write(generation / file, getattr(authority, field))
            link = self._folder / "next"
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            link.replace(self._folder / _PRESENT)
            _sync(self._folder)
            self._forget(keep={name, last})
        except OSError as cause:
            raise HomeUnusableError("The authority cannot be written.", path=self._folder, cause=cause.strerror) from cause

    def _forget(self, keep: set[str]) -> None:
        for generation in self._folder.iterdir():
            if _number(generation.name) and generation.name not in keep:
                for file in generation.iterdir():
                    file.unlink()
                generation.rmdir()

    def _file(self, path: Path, *, required: bool) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                    raise CertificateError("Others can read this file.", next_step=f"chmod 600 {path}", path=path)
                return file.read()
        except FileNotFoundError as cause:
            if required:
                raise CertificateError("A file of the authority is missing.", path=path) from cause
            return b""
        except OSError as cause:
            raise CertificateError("A file of the authority cannot be read.", path=path, cause=cause.strerror) from cause


def _number(name: str) -> int:
    number = name.removeprefix("generation-")
    return int(number) if number.isdecimal() and name != number else 0


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

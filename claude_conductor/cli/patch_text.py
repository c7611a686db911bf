"""What does a patch of git say: which files, how many lines, and which line is of which sort? Pure; believes no line of it."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

_FILE: Final = b"diff --git "
_HUNK: Final = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_BLOB: Final = re.compile(rb"(?:literal|delta) (\d+)\Z")
_ESCAPE: Final = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
_LETTERS: Final = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


class Part(enum.Enum):
    """What a line of a patch is."""

    FILE = "file"
    """`diff --git`: a file begins."""
    ABOUT = "about"
    """A header of the file, or a remark of git."""
    HUNK = "hunk"
    CONTEXT = "context"
    ADDED = "added"
    REMOVED = "removed"
    BINARY = "binary"
    """Of a file that is no text: base85."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its end."""

    part: Part
    content: bytes


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a patch does to one file."""

    path: str
    kind: str = "changed"
    """`added`, `deleted` or `changed`."""
    added: int = 0
    removed: int = 0
    binary: bool = False

    @property
    def size(self) -> str:
        """Its size in words, such as `+10 -3`."""
        return "binary" if self.binary else f"+{self.added} -{self.removed}"


def lines(patch: bytes) -> Iterator[Line]:
    """Yield the lines of a patch as `git diff --binary` writes it (git-diff(1)), in order.

    Hunks are read by their counted lines, so that nothing in a file's content is taken for a header.
    """
    old = new = 0
    binary = False
    for content in patch.removesuffix(b"\n").split(b"\n"):
        first = content[:1]
        if old or new:
            if first == b"\\":
                yield Line(Part.ABOUT, content)
                continue
            part = {b"+": Part.ADDED, b"-": Part.REMOVED}.get(first, Part.CONTEXT)
            old -= part is not Part.ADDED and old > 0
            new -= part is not Part.REMOVED and new > 0
            yield Line(part, content)
        elif content.startswith(_FILE):
            binary = False
            yield Line(Part.FILE, content)
        elif (hunk := _HUNK.match(content)) is not None and not binary:
            old, new = (int(1 if count is None else count) for count in hunk.groups())
            yield Line(Part.HUNK, content)
        elif binary:
            yield Line(Part.BINARY, content)
        else:
            binary = content == b"GIT binary patch"
            yield Line(Part.ABOUT, content)


def files(patch: bytes) -> list[FileChange]:
    """Return what a patch changes, in its order."""
    found: list[FileChange] = []
    for line in lines(patch):
        if line.part is Part.FILE:
            found.append(FileChange(_path(line.content)))
            continue
        if not found:
            continue
        change = found[-1]
        if line.part is Part.ADDED:
            found[-1] = replace(change, added=change.added + 1)
        elif line.part is Part.REMOVED:
            found[-1] = replace(change, removed=change.removed + 1)
        elif line.part is Part.ABOUT:
            found[-1] = _told(change, line.content)
    return found


def blob_size(content: bytes) -> int | None:
    """Return the bytes that follow in a binary patch; None if this line does not say."""
    match = _BLOB.match(content)
    return int(match[1]) if match else None


def _told(change: FileChange, content: bytes) -> FileChange:
    if content.startswith(b"new file mode"):
        return replace(change, kind="added")
    if content.startswith(b"deleted file mode"):
        return replace(change, kind="deleted")
    if content.startswith((b"GIT binary patch", b"Binary files ")):
        return replace(change, binary=True)
    return change


def _path(header: bytes) -> str:
    """Return the path of a `diff --git a/PATH b/PATH` line; both are the same, as our patches know no renames."""
    rest = header.removeprefix(_FILE)
    name = rest[: (len(rest) - 1) // 2]
    if name.startswith(b'"'):
        name = _unquoted(name[1:-1])
    return name.removeprefix(b"a/").decode("utf-8", "replace")


def _unquoted(name: bytes) -> bytes:
    """Return a name that git quoted because of odd bytes in it (git-config(1), core.quotePath)."""

    def meant(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 0xFF]) if code.isdigit() else _LETTERS.get(code, code)

    return _ESCAPE.sub(meant, name)

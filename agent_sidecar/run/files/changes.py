"""What an agent changed in its clone, found without believing anything in it: its `.git` is never asked, its files only read.

Names come from the base commit and from `git ls-files --others` (which reads `.gitignore` files and runs nothing); contents are
read here, links refused, and handed as bytes to `git fast-import` in our own git folder; the patch is the difference of two
commits there. So no hook, filter, fsmonitor, attribute driver or nested repository of the agent's ever comes into play.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from agent_sidecar.run.files import beneath
from agent_sidecar.run.files.git import Git
from agent_sidecar.run.files.planted import warnings_about
from agent_sidecar.run.files.source import Base
from agent_sidecar.run.task import Patch
from claude_conductor.errors import WorkspaceError
from claude_conductor.units import format_size

if TYPE_CHECKING:
    import hashlib

PATCH_BYTES: Final = 64 << 20
CONTENT_BYTES: Final = 256 << 20
"""Bound of the changed files' content, before it becomes a patch."""
_CHUNK: Final = 1 << 20
_COLLECTED: Final = "refs/heads/collected"
_LINK, _PLAIN, _EXECUTABLE = b"120000", b"100644", b"100755"


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of a workspace."""

    patch: Patch | None
    """None when nothing changed."""
    warnings: tuple[str, ...]
    paths: tuple[str, ...] = ()
    """What the patch changes, from the top of the repository."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of the base commit."""

    mode: bytes
    digest: str
    size: int
    """Bytes."""


async def collect(
    workspace: Path, base: Base, target: Path, git: Git, excluded: Iterable[str] = (), made: Iterable[str] = ()
) -> Collected:
    """Write the changes of a workspace as a patch.

    Args:
        workspace: The agent's clone; it may still be written to.
        base: What it was made from.
        target: Folder for the patch; its name is its hash.
        git: Runs git.
        excluded: Relative paths that were put there by us.
        made: Relative paths whose new files are not the agent's doing; what the base has of them counts all the same.

    Raises:
        WorkspaceError: It cannot be read, or the changes are larger than a patch may be.
    """
    ours: list[str | Path] = ["--git-dir", base.store, "--work-tree", workspace, "-c", "core.bare=false"]
    others = await git.run("-C", workspace, *ours, "ls-files", "-z", "--others", "--exclude-standard")
    listed = await git.run("--git-dir", base.store, "ls-tree", "-r", "-z", "-l", "--full-tree", base.commit)
    skipped = {os.fsencode(path) for path in excluded}
    stream = base.store / "stream"
    try:
        scan = _Scan(workspace, _entries(listed), _digest_of(base.commit))
        new = _outside(others.split(b"\0"), made) - skipped - {b""}
        changed = await asyncio.to_thread(scan.write, stream, base.commit, new, skipped)
        planted = await asyncio.to_thread(warnings_about, workspace)
        patch, paths = await _patch(base, stream, target, git) if changed else (None, ())
    except OSError as cause:
        raise WorkspaceError("The workspace could not be read.", path=workspace, cause=cause.strerror) from cause
    return Collected(patch, (*scan.warnings[:20], *planted), paths)


def _outside(names: list[bytes], folders: Iterable[str]) -> set[bytes]:
    """Return the names that neither are nor lie in one of the folders."""
    roots = tuple(os.fsencode(folder.rstrip("/")) + b"/" for folder in folders)
    return {name for name in names if not (name + b"/").startswith(roots)} if roots else set(names)


def _digest_of(commit: str) -> Callable[[bytes], hashlib._Hash]:
    """Return the hash function of the repository this commit is from (git: hash function transition, SHA-1 or SHA-256)."""
    import hashlib  # noqa: PLC0415 - OpenSSL's hashes are 0.8 MB that an idle sidecar does without

    return hashlib.sha1 if len(commit) == 40 else hashlib.sha256


def _entries(listed: bytes) -> dict[bytes, _Entry]:
    entries: dict[bytes, _Entry] = {}
    for line in filter(None, listed.split(b"\0")):
        facts, _, path = line.partition(b"\t")
        mode, kind, digest, size = facts.split()
        if kind == b"blob":
            entries[path] = _Entry(mode, digest.decode(), int(size))
    return entries


class _Scan:
    """Compares a folder with a commit and writes the difference for `git fast-import`. Blocking."""

    def __init__(self, workspace: Path, entries: dict[bytes, _Entry], digest: Callable[[bytes], hashlib._Hash]) -> None:
        self._workspace = workspace
        self._entries = entries
        self._digest = digest
        self._left = CONTENT_BYTES
        self.warnings: list[str] = []

    def write(self, stream: Path, commit: str, others: set[bytes], excluded: set[bytes]) -> bool:
        """Write the stream; return whether anything changed."""
        root = os.open(self._workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with stream.open("wb") as out:
                out.write(b"commit refs/heads/collected\ncommitter Conductor <conductor@conductor.local> 0 +0000\ndata 0\n")
                out.write(b"from " + commit.encode() + b"\n")
                start = out.tell()
                names = sorted((self._entries.keys() | others) - excluded)
                there = [name for name in names if self._kind(root, name) is not None]
                for name in sorted(self._entries.keys() - set(there) - excluded):
                    out.write(b"D " + _quoted(name) + b"\n")  # first, as a folder may stand where a file was
                for name in there:
                    self._compare(root, name, out)
                return out.tell() > start
        finally:
            os.close(root)

    def _kind(self, root: int, name: bytes) -> int | None:
        """Return the type of a file or link; None where there is neither, which is noted where it is odd."""
        names = beneath.split(name)
        if names is None or any(part.lower() == b".git" for part in names):
            if name not in self._entries and not name.endswith(b"/"):
                self._warn(name, "has a name that git does not allow, and is not in the patch")
            return None
        try:
            with beneath.folder(root, names[:-1]) as parent:
                kind = stat.S_IFMT(os.stat(names[-1], dir_fd=parent, follow_symlinks=False).st_mode)
        except OSError:
            return None
        if kind in (stat.S_IFREG, stat.S_IFLNK):
            return kind
        if kind != stat.S_IFDIR:
            self._warn(name, "is neither file, folder nor link, and is not in the patch")
        return None

    def _compare(self, root: int, name: bytes, out: IO[bytes]) -> None:
        *folders, last = name.split(b"/")
        with beneath.folder(root, folders) as parent:
            mode = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                self._compare_link(name, os.readlink(last, dir_fd=parent), out)
                return
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(last, flags, dir_fd=parent), "rb") as file:
                facts = os.fstat(file.fileno())
                if stat.S_ISREG(facts.st_mode):
                    self._compare_file(name, _EXECUTABLE if facts.st_mode & 0o100 else _PLAIN, file, out)

    def _compare_link(self, name: bytes, leads_to: bytes, out: IO[bytes]) -> None:
        digest = self._digest(b"blob %d\0" % len(leads_to) + leads_to).hexdigest()
        if self._entries.get(name) != _Entry(_LINK, digest, len(leads_to)):
            _begin(out, _LINK, name, len(leads_to))
            out.write(leads_to + b"\n")

    def _compare_file(self, name: bytes, mode: bytes, file: IO[bytes], out: IO[bytes]) -> None:
        size = os.fstat(file.fileno()).st_size
        before = self._entries.get(name)
        # Only what may be as it was is hashed: a sparse file of a terabyte costs an agent nothing, and would cost us an hour.
        if before is not None and (before.mode, before.size) == (mode, size) and self._hashed(file, size) == before.digest:
            return
        self._left -= size
        if self._left < 0:
            raise WorkspaceError(
                f"The changed files hold more than {format_size(CONTENT_BYTES)}, which is too much for a patch.",
                next_step="have large files ignored by .gitignore",
                path=os.fsdecode(name),
            )
        _begin(out, mode, name, size)
        file.seek(0)
        for piece in _pieces(file, size):
            out.write(piece)
        out.write(b"\n")

    def _hashed(self, file: IO[bytes], size: int) -> str:
        digest = self._digest(b"blob %d\0" % size)
        for piece in _pieces(file, size):
            digest.update(piece)
        return digest.hexdigest()

    def _warn(self, name: bytes, what: str) -> None:
        self.warnings.append(f"{os.fsdecode(name)!r} {what}")


def _pieces(file: IO[bytes], size: int) -> Iterable[bytes]:
    """Yield exactly `size` bytes; a file that shrinks meanwhile is filled up with zeros, one that grows is cut."""
    while size > 0:
        piece = file.read(min(size, _CHUNK)) or bytes(min(size, _CHUNK))
        size -= len(piece)
        yield piece


def _begin(out: IO[bytes], mode: bytes, name: bytes, size: int) -> None:
    out.write(b"M " + mode + b" inline " + _quoted(name) + b"\ndata %d\n" % size)


def _quoted(name: bytes) -> bytes:
    """Return the path as git-fast-import(1) reads it whatever is in it."""
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


async def _patch(base: Base, stream: Path, target: Path, git: Git) -> tuple[Patch | None, tuple[str, ...]]:
    """Make the patch of what the stream holds; return it with the paths it changes."""
    content = await asyncio.to_thread(stream.open, "rb")
    with content:
        await git.run("--git-dir", base.store, "fast-import", "--quiet", "--force", stdin=content)
    plain = ["--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--full-index", base.commit, _COLLECTED, "--"]
    diff: list[str | Path] = ["--git-dir", base.store, "diff"]
    counted = await git.run(*diff, "--numstat", "-z", *plain)
    unnamed = target / "patch.new"
    file = await asyncio.to_thread(_create, unnamed)
    with file:
        await git.run(*diff, "--binary", *plain, stdout=file)
    size, digest = await asyncio.to_thread(_measure, unnamed)
    if size > PATCH_BYTES:
        await asyncio.to_thread(unnamed.unlink)
        raise WorkspaceError(
            f"The patch would be {format_size(size)}; {format_size(PATCH_BYTES)} is the most.",
            next_step="have generated files ignored by .gitignore",
        )
    if size == 0:
        return None, ()
    path = await asyncio.to_thread(unnamed.rename, target / f"sha256_{digest}")
    lines = [line.split(b"\t", 2) for line in counted.split(b"\0") if line]
    return Patch(path, digest, size, *_counts(lines)), tuple(os.fsdecode(name) for _, _, name in lines)


def _create(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _measure(path: Path) -> tuple[int, str]:
    """Make the file durable, and return its size and hash."""
    import hashlib  # noqa: PLC0415 - as above

    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _counts(lines: list[list[bytes]]) -> tuple[int, int, int]:
    """Return files, added and removed lines of what `git diff --numstat -z` told; binary files count no lines."""
    return len(lines), sum(int(a) for a, _, _ in lines if a != b"-"), sum(int(r) for _, r, _ in lines if r != b"-")

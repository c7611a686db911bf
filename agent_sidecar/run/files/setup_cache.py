"""What did set-up commands make, and may it be used again?

An entry is a folder named by the hash of everything its making depended on. It is written from a workspace that no agent has been
in yet, never changed afterwards, and only ever copied out of: no two workspaces share a file. All sidecars of a home share the
entries; one appears and goes away by a rename.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_sidecar.isolation.interface import Level
from agent_sidecar.run.files import beneath, descent, tree
from agent_sidecar.run.files.copying import copy
from agent_sidecar.run.task import Assignment, FolderSource, GitSource, SetupOrder
from claude_conductor.clock import Clock
from claude_conductor.errors import WorkspaceError
from claude_conductor.units import format_size

_LARGEST_LOCK: Final = 64 << 20
"""Bytes of a file that is hashed."""
_FORGOTTEN_SECONDS: Final = 86_400.0
"""After which what a killed sidecar left half-made is removed."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is in a tree: compared after a copy, so that one that is cut short is noticed."""

    entries: int = 0
    size_bytes: int = 0

    def plus(self, other: Extent) -> Extent:
        """Return both together."""
        return Extent(self.entries + other.entries, self.size_bytes + other.size_bytes)


def name_of(assignment: Assignment, order: SetupOrder, digests: Sequence[str], toolchains: Sequence[Path], level: Level) -> str:
    """Return the name of the entry: it differs where anything differs that a submitter or this host decides.

    Args:
        assignment: The task.
        order: Its set-up.
        digests: Of the files that decide, in their order.
        toolchains: Folders the command can read.
        level: In force around it.
    """
    source = assignment.source
    where = {"git": source.repository} if isinstance(source, GitSource) else {}
    if isinstance(source, FolderSource):
        where = {"folder": str(source.path)}
    import hashlib  # noqa: PLC0415 - OpenSSL's hashes are 0.8 MB that an idle sidecar does without
    import platform  # noqa: PLC0415 - as above

    system = platform.uname()
    parts = {
        "format": 1,
        "tenant": assignment.tenant_id,
        "source": where,
        "command": order.command,
        "environment": sorted(assignment.environment.items()),
        "files": list(zip(order.cache_files, digests, strict=True)),
        "keep": order.keep,
        "driver": assignment.driver,
        "toolchains": sorted(map(str, toolchains)),
        "level": level.value,
        "platform": [system.system, system.machine, *platform.libc_ver()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest(workspace: Path, path: str) -> str:
    """Return the hash of a file of the workspace; empty where there is none. Blocking.

    Raises:
        WorkspaceError: It is a link or no file, lies behind a link, or is too large to be read.
    """
    import hashlib  # noqa: PLC0415 - as above

    try:
        with _opened(workspace, path) as (parent, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            with os.fdopen(descriptor, "rb") as file:
                if os.fstat(descriptor).st_size > _LARGEST_LOCK:
                    raise WorkspaceError(
                        f"A file that decides about a set-up has at most {format_size(_LARGEST_LOCK)}.", path=path
                    )
                return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as cause:
        raise WorkspaceError("A file that decides about a set-up is a link or no file.", path=path) from cause


def there(workspace: Path, path: str) -> bool:
    """Tell whether a path of the workspace leads to something, a link included. Blocking."""
    try:
        with _opened(workspace, path) as (parent, name):
            os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # behind a link or a file: something is there, and nothing can be put there
    return True


class SetupCache:
    """Entries of all sidecars of a home.

    Args:
        root: Its folder; agents cannot enter it.
        bound: Bytes all entries may hold together; 0: nothing is kept.
        clock: Tells the time.
    """

    def __init__(self, root: Path, bound: int, clock: Clock) -> None:
        self._root = root
        self._bound = bound
        self._clock = clock

    @property
    def on(self) -> bool:
        """Whether anything is kept at all."""
        return self._bound > 0

    async def restore(self, name: str, workspace: Path) -> tuple[str, ...] | None:
        """Copy an entry into a workspace that has nothing in its place.

        Returns:
            The paths that are there now; None where there is no such entry, and nothing was changed.

        Raises:
            WorkspaceError: Something is in the way.
        """
        entry = self._root / name
        try:
            about = json.loads(await asyncio.to_thread((entry / "about.json").read_text))
            await asyncio.to_thread(os.utime, entry)
        except (OSError, ValueError):
            return None
        done: list[str] = []
        found = Extent()
        try:
            for number, path in enumerate(about["paths"]):
                target = await asyncio.to_thread(_place, workspace, path)
                done.append(path)
                await copy(entry / str(number), target)
                found = found.plus(await asyncio.to_thread(extent, target))
        except WorkspaceError:
            found = Extent(-1)  # it went away meanwhile
        if found == Extent(about["entries"], about["bytes"]):
            return tuple(done)
        for path in done:
            await asyncio.to_thread(tree.remove, workspace / path)
        await asyncio.to_thread(self._drop, entry)
        return None

    async def store(self, name: str, workspace: Path, paths: Sequence[str]) -> str:
        """Keep what a set-up made. Nobody may write to the workspace meanwhile.

        Returns:
            Why nothing was kept, as a sentence; empty if it was.
        """
        made = [path.rstrip("/") for path in paths]
        made = [path for path in made if await asyncio.to_thread(_plain, workspace, path)]
        if not made:
            return "the set-up made nothing of what it should keep: " + ", ".join(paths)
        try:
            return await self._store(name, workspace, made)
        except (OSError, WorkspaceError) as cause:
            return f"what the set-up made could not be kept: {cause}"

    async def _store(self, name: str, workspace: Path, made: Sequence[str]) -> str:
        await asyncio.to_thread(tree.make_private, self._root)
        whole = Extent()
        for path in made:
            whole = whole.plus(await asyncio.to_thread(extent, workspace / path))
        if whole.size_bytes > self._bound:
            return f"what the set-up made is not kept: {format_size(whole.size_bytes)} are more than `storage.setup_cache_size`"
        await asyncio.to_thread(self._make_room, whole.size_bytes)
        new = self._root / f".new-{os.urandom(8).hex()}"
        new.mkdir(mode=0o700)
        try:
            held = Extent()
            for number, path in enumerate(made):
                await copy(workspace / path, new / str(number))
                await asyncio.to_thread(_harmless, new / str(number))
                held = held.plus(await asyncio.to_thread(extent, new / str(number)))
            about = {"paths": made, "entries": held.entries, "bytes": held.size_bytes}
            (new / "about.json").write_text(json.dumps(about))
            with suppress(FileExistsError, OSError):  # another sidecar made the same
                new.rename(self._root / name)
        finally:
            await asyncio.to_thread(tree.remove, new)
        return ""

    def _make_room(self, wanted: int) -> None:
        """Remove the entries used longest ago until `wanted` more bytes fit, and what was left half-made. Blocking."""
        entries: list[tuple[float, int, Path]] = []
        for each in self._root.iterdir():
            with suppress(OSError, ValueError, KeyError):
                used = each.stat().st_mtime
                if each.name.startswith("."):
                    if self._clock.now() - used > _FORGOTTEN_SECONDS:
                        tree.remove(each)
                    continue
                entries.append((used, int(json.loads((each / "about.json").read_text())["bytes"]), each))
        held = sum(size for _, size, _ in entries)
        for _, size, each in sorted(entries):
            if held + wanted <= self._bound:
                break
            self._drop(each)
            held -= size

    def _drop(self, entry: Path) -> None:
        """Remove an entry; who copies from it notices by what is missing."""
        gone = self._root / f".gone-{os.urandom(8).hex()}"
        with suppress(OSError):
            entry.rename(gone)
            tree.remove(gone)


def extent(path: Path) -> Extent:
    """Return how much is in a tree, or a file. Blocking.

    Raises:
        OSError: It cannot be read.
    """
    if path.is_symlink() or not path.is_dir():
        return Extent(1, path.lstat().st_size)
    found, size = 1, 0
    for entry in descent.entries(path):
        found += 1
        if not entry.folder:
            size += os.stat(entry.name, dir_fd=entry.descriptor, follow_symlinks=False).st_size
    return Extent(found, size)


def _harmless(path: Path) -> None:
    """Take pipes, sockets and special permissions away."""
    if path.is_symlink() or not path.is_dir():
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o777)
        return
    tree.drop_special_files(path)
    path.chmod(path.stat().st_mode & 0o777)
    for entry in descent.entries(path):
        mode = os.stat(entry.name, dir_fd=entry.descriptor, follow_symlinks=False).st_mode
        if mode & 0o7000 and (mode & 0o170000) != 0o120000:
            os.chmod(entry.name, mode & 0o777, dir_fd=entry.descriptor)


def _plain(workspace: Path, path: str) -> bool:
    """Tell whether a path leads to a file or folder that is really in the workspace, behind no link."""
    try:
        with _opened(workspace, path) as (parent, name):
            kind = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode & 0o170000
    except OSError:
        return False
    return kind in (0o040000, 0o100000)


def _place(workspace: Path, path: str) -> Path:
    """Make the folders above a path, none of them a link, and return it."""
    names = beneath.split(os.fsencode(path))
    if names is None:
        raise WorkspaceError("This is no path inside the workspace.", path=path)
    try:
        root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with beneath.folder(root, names[:-1], make=True):
                return workspace / path
        finally:
            os.close(root)
    except OSError as cause:
        raise WorkspaceError("A link or a file is in the way of what the set-up made.", path=path) from cause


@contextmanager
def _opened(workspace: Path, path: str) -> Iterator[tuple[int, bytes]]:
    """Open the folder a path lies in, no link followed; yields its descriptor and the last name."""
    names = beneath.split(os.fsencode(path.rstrip("/")))
    if names is None:
        raise WorkspaceError("This is no path inside the workspace.", path=path)
    root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with beneath.folder(root, names[:-1]) as parent:
            yield parent, names[-1]
    finally:
        os.close(root)

"""How a workspace is filled: empty, a clone, or a copy; the user's own files are only read."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_sidecar.run.files import tree
from agent_sidecar.run.files.copying import copy
from agent_sidecar.run.files.git import Git
from agent_sidecar.run.task import EmptySource, FolderSource, GitSource, Source
from claude_conductor.errors import WorkspaceError

RAW_ATTRIBUTES: Final = "* -text -eol -filter -ident -working-tree-encoding\n"
"""Files are checked out byte for byte, so that a changed file can be told by its hash and no filter program is ever asked for."""


_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Base:
    """What a clone was made from."""

    commit: str
    """Hexadecimal."""
    store: Path
    """Our own git folder, out of the agent's reach, that holds this one commit."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A workspace that is ready."""

    base: Base | None
    """None where it is no clone."""
    warnings: tuple[str, ...] = ()


async def fill(source: Source, target: Path, store: Path, git: Git, author: str) -> Filled:
    """Fill `target`, which does not exist yet. It belongs to this process's user afterwards.

    Args:
        source: What to fill it with.
        target: The new folder.
        store: Where our own git folder goes, for a clone.
        git: Runs git.
        author: Name the agent commits as.

    Raises:
        WorkspaceError: The source cannot be read, or the target not be written.
        MissingProgramError: git or cp is not installed.
    """
    try:
        match source:
            case EmptySource():
                await asyncio.to_thread(target.mkdir)
                return Filled(None)
            case FolderSource():
                return Filled(None, await _copy(source.path, target))
            case GitSource():
                return Filled(await _clone(source, target, store, git, author))
    except OSError as cause:
        raise WorkspaceError(path=target, cause=cause.strerror) from cause


async def _copy(source: Path, target: Path) -> tuple[str, ...]:
    if not source.is_absolute() or not await asyncio.to_thread(source.is_dir):
        raise WorkspaceError("The folder of the task is not a folder on this host.", path=source)
    await copy(f"{source}/.", target)
    dropped = await asyncio.to_thread(tree.drop_special_files, target)
    return tuple(f"{name} is neither file, folder nor link and was not copied" for name in dropped)


async def _clone(source: GitSource, target: Path, store: Path, git: Git, author: str) -> Base:
    if source.repository.startswith("-") or "\0" in source.repository + source.ref:
        raise WorkspaceError("This is not the path or URL of a repository.", repository=source.repository)
    local = Path(source.repository).is_absolute()
    if local and not await asyncio.to_thread(Path(source.repository).is_dir):
        raise WorkspaceError("There is no folder of this name on the sidecar's host.", repository=source.repository)
    # A repository that borrows objects from another would leave a plain copy incomplete inside the sandbox.
    plain = local and not await _borrows(source.repository, git)
    how = ["--local", "--no-hardlinks"] if plain else ["--no-local"]
    quiet = ["--quiet", "--template=", "--no-recurse-submodules", "--no-checkout"]
    await git.run("clone", *quiet, *how, "--", source.repository, target)
    commit, branch = await _resolve(source, target, git)
    await asyncio.to_thread(_write, target / ".git/info/attributes", RAW_ATTRIBUTES)
    await git.run("-C", target, "config", "user.name", author)
    await git.run("-C", target, "config", "user.email", f"{author}@conductor.local")
    await git.run("-C", target, "checkout", "--quiet", "--force", *(("-B", branch) if branch else ("--detach",)), commit)
    await git.run("init", "--quiet", "--bare", "--template=", *await _object_format(target, git), store)
    await git.run("--git-dir", store, "fetch", "--quiet", "--no-tags", "--depth=1", target / ".git", commit)
    await asyncio.to_thread(_write, store / "info/exclude", "/.conductor/\n")
    return Base(commit, store)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


async def _borrows(repository: str, git: Git) -> bool:
    path = await git.run("-C", repository, "rev-parse", "--git-path", "objects/info/alternates")
    return await asyncio.to_thread(Path(repository, os.fsdecode(path.strip())).exists)


async def _resolve(source: GitSource, target: Path, git: Git) -> tuple[str, str]:
    """Return the commit, and the branch it is the head of (empty for none)."""
    with suppress(WorkspaceError):
        return await _found(source, target, git)
    if _COMMIT.fullmatch(source.ref):  # nothing refers to it, so that cloning alone did not bring it
        with suppress(WorkspaceError):
            await git.run("-C", target, "fetch", "--quiet", "--no-tags", "origin", source.ref)
    return await _found(source, target, git)


async def _found(source: GitSource, target: Path, git: Git) -> tuple[str, str]:
    short = source.ref.removeprefix("refs/heads/")
    tries = [(f"refs/remotes/origin/{short}", short), (source.ref, "")] if source.ref else [("HEAD", "")]
    for name, branch in tries:
        with suppress(WorkspaceError):
            found = await git.run("-C", target, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}")
            return found.decode().strip(), branch or await _head_branch(target, git, name)
    what = f"no commit called {source.ref}" if source.ref else "no commit yet"
    raise WorkspaceError(f"The repository has {what}.", repository=source.repository)


async def _head_branch(target: Path, git: Git, name: str) -> str:
    if name != "HEAD":
        return ""
    head = await git.run("-C", target, "rev-parse", "--abbrev-ref", "HEAD")
    short = head.decode().strip()
    return "" if short == "HEAD" else short


async def _object_format(target: Path, git: Git) -> tuple[str, ...]:
    kind = (await git.run("-C", target, "rev-parse", "--show-object-format")).decode().strip()
    return () if kind == "sha1" else (f"--object-format={kind}",)


def forget(store: Path) -> None:
    """Remove our own git folder. Blocking."""
    tree.remove(store)

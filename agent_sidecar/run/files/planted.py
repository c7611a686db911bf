"""Which things in a workspace would run by themselves if somebody used git in it: hooks and commands in `.git` folders."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_MOST_ENTRIES: Final = 500_000
_MOST_WARNINGS: Final = 20
_CONFIG_BYTES: Final = 64 << 10
_EXECUTING: Final = re.compile(
    rb"(?im)^\s*(hookspath|fsmonitor|sshcommand|editor|pager|askpass|textconv|command|clean|smudge|process|helper|driver|uploadpack"
    rb"|packobjectshook|external|path|gitproxy)\s*="
)
"""Keys of git-config(1) whose value is a program or leads to some."""


def warnings_about(workspace: Path) -> tuple[str, ...]:
    """Return a sentence for each hook, executing setting and nested repository. Blocking; follows no link."""
    found: list[str] = []
    for folder, names, files in _walk(workspace):
        shown = os.path.relpath(folder, workspace)
        where = "" if shown == "." else f"{shown}/"
        if ".git" in (*names, *files):
            if where:
                found.append(f"{where} is a git repository of its own; its files are not in the patch")
            if ".git" in names:
                found += _inside(Path(folder, ".git"), f"{where}.git")
        if len(found) >= _MOST_WARNINGS:
            break
    return tuple(found[:_MOST_WARNINGS])


def _walk(workspace: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder with the names in it, `.git` not entered; by path, for nobody can use git where no path leads."""
    seen, pending = 0, [str(workspace)]
    while pending:
        folder = pending.pop()
        names: list[str] = []
        files: list[str] = []
        with suppress(OSError), os.scandir(folder) as found:
            for entry in found:
                (names if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
                seen += 1
                if seen > _MOST_ENTRIES:
                    return
        yield folder, names, files
        pending += [f"{folder}/{name}" for name in sorted(names, reverse=True) if name != ".git"]


def _inside(git: Path, shown: str) -> list[str]:
    found = [f"{shown}/hooks/{name} is a hook that the agent's clone did not have" for name in _hooks(git / "hooks")]
    for name in ("config", "config.worktree"):
        keys = {match[1].decode().lower() for match in _EXECUTING.finditer(_read(git / name))}
        found += [f"{shown}/{name} sets {key}, which makes git run a program" for key in sorted(keys)]
    return found


def _hooks(folder: Path) -> list[str]:
    try:
        if stat.S_ISLNK(folder.lstat().st_mode):
            return ["(a link)"]
        return sorted(path.name for path in folder.iterdir() if path.suffix != ".sample")[:5]
    except OSError:
        return []


def _read(path: Path) -> bytes:
    """Return the beginning of a regular file; nothing for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_CONFIG_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""

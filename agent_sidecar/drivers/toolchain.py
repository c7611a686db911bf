"""Which host folders an agent must see, read-only and at their own path, for the sidecar's Python to run inside the sandbox."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.drivers.finder import Finder
from claude_conductor.errors import IsolationRefusedError

SYSTEM_ROOTS = tuple(Path(root) for root in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"))
"""Shown in every sandbox anyway."""

_LONGEST_CHAIN = 40
"""Hops after which a chain of symbolic links counts as a loop, as in the kernel (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Where one Python interpreter and its parts lie."""

    executable: Path
    """As it was started: in a virtual environment the link inside it, which is how Python finds the environment."""
    folders: tuple[Path, ...]
    """Prefix, base prefix and the folders of the standard library."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A program and what has to be mounted for it."""

    program: Path
    folders: tuple[Path, ...]
    """Outermost folders only, sorted; without those of the system."""


def running_interpreter() -> Interpreter:
    """Describe the interpreter this process runs in."""
    library = sysconfig.get_paths()
    places = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, library["stdlib"], library["platstdlib"])
    return Interpreter(executable=Path(sys.executable), folders=tuple(dict.fromkeys(Path(place) for place in places)))


def python_toolchain(interpreter: Interpreter, finder: Finder, packages: Iterable[Path] = ()) -> Toolchain:
    """Return what the interpreter needs inside a sandbox that shows the system folders only.

    Each folder appears as it is spelled and as it resolves to, because an interpreter looks for its library through both.

    Args:
        interpreter: Usually `running_interpreter()`.
        finder: Follows the links from the executable to the real file.
        packages: Folders of packages that lie outside the interpreter's own (a development install, for example).

    Raises:
        IsolationRefusedError: The interpreter's prefix is the root folder, so mounting it would show the whole host.
    """
    spelled = {*interpreter.folders, *packages}
    wanted = spelled | {finder.resolve(folder) for folder in spelled}
    for link in _chain(interpreter.executable, finder):
        if not any(link.is_relative_to(folder) for folder in wanted):
            wanted.add(link.parent)
    if Path("/") in wanted:
        raise IsolationRefusedError(
            "Python's prefix is the root folder; mounting it would show the agent the whole host.",
            next_step="run Conductor from a virtual environment",
            executable=interpreter.executable,
        )
    return Toolchain(program=interpreter.executable, folders=outermost(wanted))


def outermost(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders that lie in no other of them and in no system folder, sorted."""
    kept: list[Path] = []
    for folder in sorted(set(folders)):
        if not any(folder.is_relative_to(outer) for outer in (*kept, *SYSTEM_ROOTS)):
            kept.append(folder)
    return tuple(kept)


def _chain(start: Path, finder: Finder) -> list[Path]:
    """Return the executable and every link it leads through, up to the real file."""
    hops = [start]
    while len(hops) < _LONGEST_CHAIN and (target := finder.read_link(hops[-1])) is not None:
        hops.append(target)
    return [*hops, finder.resolve(start)]

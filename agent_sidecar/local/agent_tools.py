"""The command `conductor-agent`, beside every agent's socket: how it is started, and what of this host it has to see for that."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_sidecar.drivers.toolchain import outermost
from claude_conductor.errors import HomeUnusableError

PROGRAM: Final = "conductor-agent"
FOLDER: Final = "bin"
"""Below the folder of the agent's sockets."""
_MODULES: Final = ("claude_conductor", "grpc", "google.protobuf", "google.rpc", "typing_extensions")
"""What the command imports beside the standard library."""


@dataclass(frozen=True, slots=True)
class AgentTools:
    """What the command is made of on this host."""

    python: Path
    """An interpreter outside of any virtual environment: it is told where to look instead."""
    prefix: Path
    """Folder with its standard library."""
    modules: tuple[Path, ...]
    """Each top-level package or module by itself: what lies beside it is not shown to an agent. Few, as each is a mount."""
    search_path: tuple[Path, ...]

    @property
    def shown(self) -> tuple[Path, ...]:
        """What a sandbox has to show, at its own path, without what belongs to the system."""
        return outermost((self.prefix, *self.modules))

    @property
    def script(self) -> str:
        """The command as a file. `-I -S` keep the agent's variables and workspace out of it, and make it start faster."""
        paths = [str(path) for path in self.search_path]
        text = f"import sys; sys.path += {paths!r}; from claude_conductor.agent_tools.main import main; sys.exit(main())"
        words = (str(self.python), "-I", "-S", "-B", "-c", text)
        return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'


def find(modules: Sequence[str] = _MODULES) -> AgentTools:
    """Return what the command needs, as this process would import it."""
    found: list[Path] = []
    search: list[Path] = []
    for name in modules:
        path = _location(name)
        if path is not None:
            outer = (path, *path.parents)[name.count(".")]
            found.append(outer)
            search.append(outer.parent)
    python = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    return AgentTools(python, Path(sys.base_prefix), tuple(found), tuple(dict.fromkeys(search)))


def install(tools: AgentTools, sockets: Path) -> None:
    """Write the command where the agent finds it; a file that is there is replaced.

    Args:
        tools: What it is made of.
        sockets: Folder of the agent's sockets, which it sees read-only as /run/conductor.

    Raises:
        HomeUnusableError: It cannot be written.
    """
    folder = sockets / FOLDER
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
        new = folder / f".{PROGRAM}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o755)
        with os.fdopen(descriptor, "w") as file:
            file.write(tools.script)
        new.chmod(0o755)
        new.replace(folder / PROGRAM)
    except OSError as cause:
        raise HomeUnusableError(path=folder, cause=cause.strerror) from cause


def _location(name: str) -> Path | None:
    """Return the folder of a package or the file of a module; None where there is none."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None

"""Which set-up of a workspace makes sense?"""

from __future__ import annotations

from typing import Final

from controlplane.domain.task import Setup, Spec

TIMEOUT: Final = 600.0
"""Seconds a set-up command may run that does not say."""
KEPT: Final = (".venv", "node_modules")
"""What a set-up command makes that does not say."""
MOST_PATHS: Final = 20
_LONGEST_PATH: Final = 1024
_NOT_OURS: Final = (".git", ".conductor")


def fault(spec: Spec) -> tuple[str, str] | None:
    """Return what is wrong with the set-up of a task: the field, and a sentence; None if nothing is."""
    setup = spec.setup
    if not setup.command:
        if setup.cache_files or setup.keep:
            return "spec.setup.command", "A set-up that is cached needs a command (--setup)."
        return None
    if spec.driver == "grpc_agent":
        return "spec.setup", "A long-running agent (`grpc_agent`) prepares its files itself: a set-up is for other drivers."
    if setup.timeout <= 0:
        return "spec.setup.timeout", "The time-out of a set-up is above 0 (--setup-timeout)."
    return _fault_of_paths(setup)


def _fault_of_paths(setup: Setup) -> tuple[str, str] | None:
    for field, paths in (("cache_files", setup.cache_files), ("keep", setup.keep)):
        if len(paths) > MOST_PATHS:
            return f"spec.setup.{field}", f"A set-up names at most {MOST_PATHS} paths."
        for path in paths:
            if not inside(path):
                return f"spec.setup.{field}", f"`{path[:100]}` is no path inside the workspace."
    kept = [path.rstrip("/") for path in setup.keep]
    if any(one != other and one.startswith(f"{other}/") for one in kept for other in kept):
        return "spec.setup.keep", "What a set-up makes is named once: one of the paths lies in another."
    if any(path.split("/")[0].lower() in _NOT_OURS for path in kept):
        return "spec.setup.keep", "What a set-up makes is neither `.git` nor `.conductor`."
    return None


def inside(path: str) -> bool:
    """Tell whether a path leads to something below the workspace, as it is written."""
    names = path.removesuffix("/").split("/")
    return len(path) <= _LONGEST_PATH and "\0" not in path and not any(name in ("", ".", "..") for name in names)

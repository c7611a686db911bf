"""Which processes did a dead sidecar leave in its cgroups, and how do they end?"""

from __future__ import annotations

import contextlib
import os
import signal
import time

ROOT = "/sys/fs/cgroup"
PREFIX = "conductor-"
"""Every cgroup of ours is called something that starts with this; nothing else is ever touched."""
BOUND = 0.25
"""Seconds one agent's cgroups may hold up the supervisor; what survives is swept by the sidecar's next start."""

_ROUND = 0.005
_MOST_GROUPS = 64


def ours(listed: str, root: str = ROOT) -> tuple[str, ...]:
    """Choose from a sidecar's list (one path per line) the cgroup folders that may be killed.

    Only existing folders under `root` whose last component starts with `conductor-` count, after links and dots are
    resolved: the list is a file, and a wrong line in it must not kill the user's session.
    """
    top = os.path.realpath(root)
    chosen: dict[str, None] = {}
    for line in listed.splitlines()[:_MOST_GROUPS]:
        path = os.path.realpath(line.strip()) if line.startswith("/") else ""
        inside = path.startswith(f"{top}/")
        if inside and os.path.basename(path).startswith(PREFIX) and os.path.isdir(path):
            chosen[path] = None
    return tuple(chosen)


def kill(groups: tuple[str, ...], bound: float = BOUND) -> tuple[str, ...]:
    """Kill everything in these cgroups and below, then remove the folders.

    `cgroup.kill` does it in one step (cgroup v2, Linux 5.14); elsewhere the processes are killed until none is left.

    Returns:
        The folders that could not be removed in `bound` seconds.
    """
    deadline = time.monotonic() + bound
    left = groups
    while True:
        left = tuple(group for group in left if not _emptied(group))
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(_ROUND)


def _emptied(group: str) -> bool:
    """Kill once and try to remove; True when the folder is gone."""
    folders = [folder for folder, _, _ in os.walk(group, topdown=False)]
    if not _killed_at_once(group):
        for folder in folders:
            for pid in _members(folder):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
    for folder in folders:
        with contextlib.suppress(OSError):  # still busy: the next round tries again
            os.rmdir(folder)
    return not os.path.isdir(group)


def _killed_at_once(group: str) -> bool:
    try:
        descriptor = os.open(f"{group}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        os.write(descriptor, b"1")
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _members(folder: str) -> list[int]:
    try:
        with open(f"{folder}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file if line.strip() not in ("", "0")]  # 0: a process of another pid namespace
    except OSError:
        return []

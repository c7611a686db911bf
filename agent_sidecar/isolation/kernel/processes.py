"""Which processes descend from one: the process table of /proc as a tree."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def descendants(ancestor: int, table: Mapping[int, int] | None = None) -> frozenset[int]:
    """Return the processes below `ancestor`, itself not included.

    Args:
        ancestor: A process id.
        table: Process id -> parent's; read from /proc if not given.
    """
    parents = parent_table() if table is None else table
    found: set[int] = set()
    edge = {ancestor}
    while edge:
        edge = {pid for pid, parent in parents.items() if parent in edge} - found
        found |= edge
    return frozenset(found)


def parent_table(proc: Path = Path("/proc")) -> dict[int, int]:
    """Return process id -> parent's process id for every living process (proc_pid_stat(5)); zombies are left out."""
    table: dict[int, int] = {}
    for name in os.listdir(proc):  # noqa: PTH208  # a path object for each of thousands of entries is slow
        if not name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            state, parent = (proc / name / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in ("Z", "X"):
                table[int(name)] = int(parent)
    return table

"""A cgroup file system in memory: what the kernel's would hold after the same writes, and refusals on demand."""

from __future__ import annotations

import errno
import os
from pathlib import Path

V1 = {
    "memory": (
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.swappiness",
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
    ),
    "cpu": ("cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.stat"),
    "pids": ("pids.max", "pids.current", "pids.events"),
    "cpuacct": ("cpuacct.usage",),
}
V2 = {
    "": ("cgroup.controllers", "cgroup.subtree_control", "cgroup.kill", "cpu.stat"),
    "memory": ("memory.max", "memory.swap.max", "memory.oom.group", "memory.current", "memory.peak", "memory.events"),
    "cpu": ("cpu.max",),
    "pids": ("pids.max", "pids.current", "pids.events"),
}
START = {
    "memory.usage_in_bytes": "0",
    "memory.max_usage_in_bytes": "0",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
    "cpu.stat": "",
    "pids.current": "0",
    "pids.events": "max 0",
    "cpuacct.usage": "0",
    "memory.current": "0",
    "memory.peak": "0",
    "memory.events": "oom 0\noom_kill 0",
}


class FakeCgroupFiles:
    """Groups and files as dictionaries. `version` maps a mount to 1 or 2, `controllers` to what it carries."""

    def __init__(self, mounts: dict[str, tuple[int, tuple[str, ...]]]) -> None:
        self.mounts = {Path(name): value for name, value in mounts.items()}
        self.groups: set[Path] = set()
        self.texts: dict[Path, str] = {}
        self.refused: set[Path] = set()
        """Groups and files that answer EACCES."""
        self.busy: set[Path] = set()
        self.unwritable: set[Path] = set()
        self.writes: list[tuple[Path, str]] = []
        for mount in self.mounts:
            self.make(mount)

    def read(self, path: Path) -> str:
        self._check(path)
        return self.texts[path]

    def write(self, path: Path, text: str) -> None:
        self._check(path)
        self.writes.append((path, text))
        if path.name == "cgroup.subtree_control":
            text = " ".join(sorted({*self.texts[path].split(), text.lstrip("+")}))
        self.texts[path] = text

    def make(self, path: Path) -> None:
        if path in self.refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        if path in self.groups:
            raise FileExistsError(errno.EEXIST, "exists", str(path))
        self.groups.add(path)
        for name in (*self._files(path), "cgroup.procs", "tasks"):
            self.texts[path / name] = START.get(name, "")

    def remove(self, path: Path) -> None:
        if path not in self.groups:
            raise FileNotFoundError(errno.ENOENT, "none", str(path))
        if path in self.busy:
            raise OSError(errno.EBUSY, "busy", str(path))
        self.groups.discard(path)
        self.texts = {name: text for name, text in self.texts.items() if name.parent != path}

    def exists(self, path: Path) -> bool:
        return path in self.groups or path in self.texts

    def children(self, path: Path) -> tuple[str, ...]:
        return tuple(sorted(each.name for each in self.groups if each.parent == path))

    def writable(self, path: Path) -> bool:
        return path not in self.unwritable

    def _check(self, path: Path) -> None:
        if path in self.refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        if path not in self.texts:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def _files(self, path: Path) -> tuple[str, ...]:
        mount = next(each for each in (path, *path.parents) if each in self.mounts)
        version, controllers = self.mounts[mount]
        if version == 1:
            return tuple(name for each in controllers for name in V1[each])
        handed = controllers if path == mount else tuple(self.texts[path.parent / "cgroup.subtree_control"].split())
        return (*V2[""], *(name for each in handed for name in V2.get(each, ())))

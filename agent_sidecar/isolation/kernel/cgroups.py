"""The groups of one run: create them with limits, read the use, kill and remove them, on version 1, 2 and both."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from agent_sidecar.isolation.interface import Limits, Stats
from agent_sidecar.isolation.kernel.cgroup_files import CgroupFiles

PERIOD_MICROSECONDS = 100_000
"""Period of the processor quota, the kernel's default."""


@dataclass(frozen=True, slots=True)
class Place:
    """A group below which this sidecar may create groups."""

    version: int
    parent: Path


@dataclass(frozen=True, slots=True)
class Places:
    """Where each kind of group goes; None where the host has no usable place."""

    memory: Place | None = None
    cpu: Place | None = None
    pids: Place | None = None
    account: Place | None = None
    """Counts processor time on version 1."""
    kill: Place | None = None
    """A version 2 tree whose `cgroup.kill` ends everything at once."""

    def distinct(self) -> tuple[Place, ...]:
        """Return every place once, the killing one first so that a process is in it before it can fork elsewhere."""
        every = (self.kill, self.memory, self.pids, self.cpu, self.account)
        return tuple(dict.fromkeys(place for place in every if place is not None))


@dataclass(slots=True)
class RunGroups:
    """The groups of one run. Blocking, but every call is a handful of writes to memory-backed files."""

    files: CgroupFiles
    places: Places
    name: str
    _last: Stats = field(default_factory=Stats)

    def create(self, limits: Limits) -> None:
        """Create the groups and set every limit.

        Raises:
            OSError: The kernel refused; what was created is removed again.
        """
        try:
            for place in self.places.distinct():
                self.files.make(place.parent / self.name)
            self._limit_memory(limits.memory_bytes)
            self._limit_cpu(limits.cpus)
            if (pids := self._path(self.places.pids)) is not None:
                self.files.write(pids / "pids.max", str(limits.pids))
        except OSError:
            self.remove()
            raise

    def join_files(self) -> tuple[Path, ...]:
        """Return the files of version 1 groups into which a single-threaded process writes `0` to enter.

        It is `tasks`, not `cgroup.procs`: for the writing thread itself the kernel skips the lock that stops every fork on the
        machine (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
        """
        return tuple(place.parent / self.name / "tasks" for place in self.places.distinct() if place.version == 1)

    def birth_group(self) -> Path | None:
        """Return the folder of the version 2 group to be born in (CLONE_INTO_CGROUP)."""
        return next((place.parent / self.name for place in self.places.distinct() if place.version == 2), None)

    def stats(self) -> Stats:
        """Return the use so far; after the groups are gone, the last that was read."""
        with contextlib.suppress(OSError):
            self._last = self._read_stats()
        return self._last

    def kill(self) -> None:
        """Kill everything in the groups: at once with a version 2 tree, else each process seen; repeat until empty."""
        kill = self._path(self.places.kill)
        if kill is not None:
            with contextlib.suppress(OSError):
                self.files.write(kill / "cgroup.kill", "1")
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> frozenset[int]:
        """Return the process ids in any of the groups, as seen from this pid namespace."""
        found: set[int] = set()
        for place in self.places.distinct():
            with contextlib.suppress(FileNotFoundError, OSError):
                found.update(int(pid) for pid in self.files.read(place.parent / self.name / "cgroup.procs").split())
        return frozenset(found)

    def remove(self) -> bool:
        """Remove the groups that are empty; return whether none is left (a dying process keeps one a moment longer)."""
        gone = True
        for place in self.places.distinct():
            try:
                self.files.remove(place.parent / self.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                gone = False
        return gone

    def _path(self, place: Place | None) -> Path | None:
        return None if place is None else place.parent / self.name

    def _limit_memory(self, size: int) -> None:
        if self.places.memory is None:
            return
        group = self.places.memory.parent / self.name
        if self.places.memory.version == 2:
            self.files.write(group / "memory.max", str(size))
            if self.files.exists(group / "memory.swap.max"):
                self.files.write(group / "memory.swap.max", "0")
            self.files.write(group / "memory.oom.group", "1")
            return
        self.files.write(group / "memory.limit_in_bytes", str(size))
        if self.files.exists(group / "memory.memsw.limit_in_bytes"):
            self.files.write(group / "memory.memsw.limit_in_bytes", str(size))
        else:
            self.files.write(group / "memory.swappiness", "0")

    def _limit_cpu(self, cpus: float) -> None:
        if self.places.cpu is None:
            return
        group = self.places.cpu.parent / self.name
        quota = max(1000, round(cpus * PERIOD_MICROSECONDS))
        if self.places.cpu.version == 2:
            self.files.write(group / "cpu.max", f"{quota} {PERIOD_MICROSECONDS}")
            return
        self.files.write(group / "cpu.cfs_period_us", str(PERIOD_MICROSECONDS))
        self.files.write(group / "cpu.cfs_quota_us", str(quota))

    def _read_stats(self) -> Stats:
        now, peak, ooms = self._read_memory()
        used, throttled = self._read_cpu()
        count, refused = 0, 0
        if (pids := self._path(self.places.pids)) is not None:
            count = int(self.files.read(pids / "pids.current"))
            refused = _field(self.files.read(pids / "pids.events"), "max")
        return Stats(
            memory_bytes=now,
            memory_peak_bytes=max(peak, now, self._last.memory_peak_bytes),
            cpu_seconds=used,
            throttled_seconds=throttled,
            pids=count,
            oom_kills=ooms,
            pids_refused=refused,
        )

    def _read_memory(self) -> tuple[int, int, int]:
        """Return bytes now, peak bytes (0 where the kernel does not keep it) and OOM kills."""
        if self.places.memory is None:
            return 0, 0, 0
        group, read = self.places.memory.parent / self.name, self.files.read
        if self.places.memory.version == 2:
            peak = int(read(group / "memory.peak")) if self.files.exists(group / "memory.peak") else 0
            return int(read(group / "memory.current")), peak, _field(read(group / "memory.events"), "oom_kill")
        return (
            int(read(group / "memory.usage_in_bytes")),
            int(read(group / "memory.max_usage_in_bytes")),
            _field(read(group / "memory.oom_control"), "oom_kill"),
        )

    def _read_cpu(self) -> tuple[float, float]:
        """Return seconds used and seconds throttled."""
        used = throttled = 0.0
        if (account := self._path(self.places.account)) is not None:
            used = int(self.files.read(account / "cpuacct.usage")) / 1e9
        elif (kill := self._path(self.places.kill)) is not None:
            used = _field(self.files.read(kill / "cpu.stat"), "usage_usec") / 1e6
        if self.places.cpu is not None:
            text = self.files.read(self.places.cpu.parent / self.name / "cpu.stat")
            throttled = _field(text, "throttled_usec") / 1e6 or _field(text, "throttled_time") / 1e9
            used = used or _field(text, "usage_usec") / 1e6
        return used, throttled


def _field(text: str, name: str) -> int:
    return next((int(value) for key, _, value in (line.partition(" ") for line in text.splitlines()) if key == name), 0)

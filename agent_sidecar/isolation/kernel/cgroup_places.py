"""Where this sidecar may really create groups: found by creating one, setting its limit and removing it again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from agent_sidecar.isolation.kernel import cgroup_layout
from agent_sidecar.isolation.kernel.cgroup_files import CgroupFiles
from agent_sidecar.isolation.kernel.cgroup_layout import Hierarchy, Layout
from agent_sidecar.isolation.kernel.cgroups import Place, Places

_TRIAL = {
    (1, "memory"): ("memory.limit_in_bytes", "67108864"),
    (1, "cpu"): ("cpu.cfs_quota_us", "50000"),
    (1, "pids"): ("pids.max", "16"),
    (1, "cpuacct"): ("cpuacct.usage", "0"),
    (2, "memory"): ("memory.max", "67108864"),
    (2, "cpu"): ("cpu.max", "50000 100000"),
    (2, "pids"): ("pids.max", "16"),
    (2, "kill"): ("cgroup.kill", "1"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """The usable places, and for each kind without one what the attempts said."""

    places: Places
    problems: dict[str, str] = field(default_factory=dict)


def search(files: CgroupFiles, layout: Layout, uid: int, name: str) -> Found:
    """Try every candidate place.

    Args:
        files: The cgroup file system.
        layout: Where it is mounted.
        uid: Effective uid of this process.
        name: Name for the groups that are created and removed by the attempt; nobody else's.
    """
    problems: dict[str, str] = {}
    found: dict[str, Place | None] = {}
    for kind in ("memory", "cpu", "pids", "cpuacct", "kill"):
        hierarchy = layout.version2 if kind == "kill" else layout.carrier(kind)
        if hierarchy is None or (kind == "cpuacct" and hierarchy.version == 2):
            problems[kind] = f"no cgroup hierarchy with the controller {kind} is mounted"
            continue
        attempts = {parent: _attempt(files, hierarchy, parent, kind, uid, name) for parent in _parents(hierarchy, uid, files)}
        parent = next((each for each, problem in attempts.items() if not problem), None)
        found[kind] = None if parent is None else Place(hierarchy.version, parent)
        if parent is None:
            problems[kind] = "; ".join(f"{each}: {problem}" for each, problem in attempts.items()) or "no group to try"
    places = Places(found.get("memory"), found.get("cpu"), found.get("pids"), found.get("cpuacct"), found.get("kill"))
    return Found(places, problems)


def _parents(hierarchy: Hierarchy, uid: int, files: CgroupFiles) -> tuple[Path, ...]:
    candidates = cgroup_layout.candidates(hierarchy, uid)
    return tuple(each for each in candidates if files.exists(each)) or candidates[:1]


def _attempt(files: CgroupFiles, hierarchy: Hierarchy, parent: Path, kind: str, uid: int, name: str) -> str:
    """Create a group below `parent`, limit it, remove it; return what went wrong or nothing."""
    group = parent / name
    if hierarchy.version == 2 and not _may_move(files, hierarchy, group, uid):
        return "moving a process there needs a delegated group this program was started in"
    try:
        if hierarchy.version == 2 and kind != "kill":
            _open_subtree(files, hierarchy, parent, kind)
        files.make(group)
    except OSError as error:
        return error.strerror or str(error)
    try:
        files.write(group / _TRIAL[hierarchy.version, kind][0], _TRIAL[hierarchy.version, kind][1])
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            files.remove(group)
    return ""


def _may_move(files: CgroupFiles, hierarchy: Hierarchy, group: Path, uid: int) -> bool:
    """Version 2 wants write access to the `cgroup.procs` of the nearest common ancestor (cgroup-v2, delegation containment)."""
    return uid == 0 or files.writable(cgroup_layout.common_ancestor(hierarchy, group) / "cgroup.procs")


def _open_subtree(files: CgroupFiles, hierarchy: Hierarchy, parent: Path, controller: str) -> None:
    """Hand the controller down to groups below `parent`; in our own delegated group move our processes into a leaf first."""
    control = parent / "cgroup.subtree_control"
    if controller in files.read(control).split():
        return
    if parent != hierarchy.mount:
        leaf = parent / cgroup_layout.LEAF
        if not files.exists(leaf):
            files.make(leaf)
        for pid in files.read(parent / "cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                files.write(leaf / "cgroup.procs", pid)
    files.write(control, f"+{controller}")

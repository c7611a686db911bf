"""Where this host keeps its cgroups: version 1, version 2 or both at once, and which places a user may try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.isolation.kernel import mount_table

LIMITING = ("memory", "cpu", "pids")
"""Controllers that limits need."""
ACCOUNTING = "cpuacct"
"""Version 1 counts processor time apart from limiting it."""
LEAF = "conductor-main"
"""Group in a delegated subtree that takes our own processes, for only leaves may hold any (cgroup-v2, no internal processes)."""
_KNOWN = frozenset({*LIMITING, ACCOUNTING})


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree of groups."""

    version: int
    mount: Path
    controllers: frozenset[str]
    """Those of interest that it carries."""
    own: str
    """Path of this process in the tree, from /proc/self/cgroup."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Every tree of groups on this host."""

    hierarchies: tuple[Hierarchy, ...]

    def carrier(self, controller: str) -> Hierarchy | None:
        """Return the tree that carries the controller."""
        return next((each for each in self.hierarchies if controller in each.controllers), None)

    @property
    def version2(self) -> Hierarchy | None:
        """The version 2 tree, with or without controllers."""
        return next((each for each in self.hierarchies if each.version == 2), None)

    @property
    def name(self) -> str:
        """The kind of layout: `v1`, `v2`, `hybrid` or `none`."""
        versions = {each.version for each in self.hierarchies if each.version == 2 or each.controllers}
        return {frozenset({1}): "v1", frozenset({2}): "v2", frozenset({1, 2}): "hybrid"}.get(frozenset(versions), "none")


def find(mountinfo: str, own_groups: str, controllers_of: Callable[[Path], str]) -> Layout:
    """Read the layout.

    Args:
        mountinfo: Text of /proc/self/mountinfo.
        own_groups: Text of /proc/self/cgroup (cgroups(7)).
        controllers_of: Returns the text of `cgroup.controllers` of a version 2 mount.
    """
    own = dict(_own_lines(own_groups))
    found: dict[Path, Hierarchy] = {}
    for mount in mount_table.parse(mountinfo):
        if mount.kind == "cgroup2":
            names = frozenset(controllers_of(mount.point).split())
            found[mount.point] = Hierarchy(2, mount.point, names & _KNOWN, own.get("", "/"))
        elif mount.kind == "cgroup":
            names = mount.super_options & _KNOWN
            path = next((own[name] for name in sorted(names) if name in own), "/")
            found[mount.point] = Hierarchy(1, mount.point, names, path)
    return Layout(tuple(found.values()))


def candidates(hierarchy: Hierarchy, uid: int) -> tuple[Path, ...]:
    """Return the groups below which `uid` may be able to create its own, best first."""
    own = hierarchy.mount / hierarchy.own.lstrip("/")
    if own.name == LEAF:
        own = own.parent
    if uid == 0:
        return tuple(dict.fromkeys((hierarchy.mount, own)))
    return tuple(dict.fromkeys((hierarchy.mount / delegated_name(uid), own)))


def delegated_name(uid: int) -> str:
    """Return the name of the group an administrator hands to a user."""
    return f"conductor-{uid}"


def common_ancestor(hierarchy: Hierarchy, target: Path) -> Path:
    """Return the nearest group above both this process and `target`, in whose `cgroup.procs` version 2 wants write access."""
    own = hierarchy.mount / hierarchy.own.lstrip("/")
    shared = [above for above in (own, *own.parents) if above == target or above in target.parents]
    return shared[0] if shared else hierarchy.mount


def _own_lines(text: str) -> list[tuple[str, str]]:
    lines = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    return [(name, path) for _, names, path in lines for name in names.split(",")]

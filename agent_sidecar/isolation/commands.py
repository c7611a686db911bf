"""What is started for a plan: the program, its arguments and the limits on it, as an order to the launcher."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent_sidecar.isolation import level as levels
from agent_sidecar.isolation.barriers import selftest, view
from agent_sidecar.isolation.barriers.etc import processor_count
from agent_sidecar.isolation.barriers.view import HostView
from agent_sidecar.isolation.bubblewrap import Bubblewrap
from agent_sidecar.isolation.interface import Level, Plan, Spec
from agent_sidecar.isolation.launcher_client import Order, real

STDIN, STDOUT, STDERR, REPORT, ARGUMENTS, SECCOMP, BRIDGE = range(7)
"""Descriptors of a new process, in this order."""
LOCKED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """What every run of one sidecar has in common."""

    uid: int
    gid: int
    bubblewrap: Bubblewrap | None
    host: HostView
    view_folder: Path
    """Holds the /etc of sandboxes and a folder for each set of limits."""
    python: Path
    """Interpreter for the bridge."""
    python_folders: tuple[Path, ...]
    """What has to be visible for it; empty where it belongs to the system."""
    processors: tuple[int, ...]
    """Processors this sidecar may use, the slot's own first."""
    seccomp: bytes
    open_seccomp: bytes
    """A filter that lets agents nest sandboxes, for the level without one of ours."""


def capped_folder(setting: Setting, spec: Spec) -> Path:
    """Return where the files that show these limits lie."""
    return setting.view_folder / f"limits-{spec.limits.memory_bytes}-{processor_count(spec.limits)}"


def shown(setting: Setting, spec: Spec) -> Spec:
    """Return the spec as the sandbox needs it: with the bridge's interpreter, without what the system folders show anyway."""
    bridge_needs = setting.python_folders if spec.bridges else ()
    toolchains = tuple(dict.fromkeys(each for each in (*spec.toolchains, *bridge_needs) if not each.is_relative_to("/usr")))
    workspace, sockets = spec.workspace.resolve(), spec.socket_directory.resolve()
    return replace(spec, toolchains=toolchains, workspace=workspace, socket_directory=sockets)


def sandbox_arguments(setting: Setting, spec: Spec) -> bytes:
    """Return bubblewrap's arguments as it reads them from a descriptor: environment values never show in a process list."""
    descriptors = view.Descriptors(SECCOMP, BRIDGE if spec.bridges else None)
    words = view.arguments(spec, setting.host, capped_folder(setting, spec), descriptors)
    return b"".join(each.encode("utf-8", "surrogateescape") + b"\0" for each in words)


def order(setting: Setting, plan: Plan, spec: Spec, joins: int, *, into_group: bool) -> Order:
    """Return what the launcher starts for a plan.

    Args:
        setting: What every run has in common.
        plan: The decision.
        spec: The plan's spec as `shown` returned it.
        joins: Number of version 1 groups to enter.
        into_group: There is a version 2 group to start in.
    """
    if plan.effective_level is Level.MINIMAL:
        return replace(_bare(setting, plan, spec), joins=joins, into_group=into_group)
    if setting.bubblewrap is None:
        raise ValueError("a plan with a sandbox was made without bubblewrap")
    text = selftest.script(spec.bridges, str(setting.python))
    program = str(setting.bubblewrap.path)
    return Order(
        program=program,
        argv=("bwrap", "--args", str(ARGUMENTS), "--", "/bin/sh", "-c", text, "sh", *spec.argv),
        environment={"PATH": "/usr/bin:/bin"},
        folder="/",
        uid=setting.uid,
        gid=setting.gid,
        rlimits=rlimits(plan),
        processors=_processors(setting, spec),
        stage=staged(setting, spec, (spec.workspace, spec.socket_directory)),
        nice=_niceness(plan),
        joins=joins,
        into_group=into_group,
    )


def staged(setting: Setting, spec: Spec, folders: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """Return every folder of the host a run needs to reach, as (where, what)."""
    programs = setting.bubblewrap.folders if setting.bubblewrap else ()
    return tuple(real(each) for each in (*programs, setting.view_folder, setting.host.etc, *spec.toolchains, *folders))


def rlimits(plan: Plan) -> tuple[tuple[int, int], ...]:
    """Return (resource, value) for a plan: the guards every run has, and those that stand in for groups that are not there."""
    limits = plan.spec.limits
    found = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, limits.open_files), (resource.RLIMIT_MEMLOCK, LOCKED_BYTES)]
    if limits.workspace_bytes:
        found.append((resource.RLIMIT_FSIZE, limits.workspace_bytes))
    if levels.PIDS not in plan.in_force:
        found.append((resource.RLIMIT_NPROC, limits.pids))
    if levels.MEMORY not in plan.in_force:
        found.append((resource.RLIMIT_DATA, limits.memory_bytes))
    return tuple(found)


def _bare(setting: Setting, plan: Plan, spec: Spec) -> Order:
    """Return the order for the minimal level: the host's own view and network, a clean environment, no new privileges."""
    environment = view.environment(spec) | {"HOME": str(spec.workspace), "TMPDIR": "/tmp"}  # noqa: S108  # the host's, by design
    filtered = levels.SECCOMP in plan.in_force
    return Order(
        program="/bin/sh",
        argv=("sh", "-c", 'exec "$@"', "sh", *spec.argv),
        environment=environment | dict(spec.environment),
        folder=str(spec.workspace),
        uid=setting.uid,
        gid=setting.gid,
        rlimits=rlimits(plan),
        processors=_processors(setting, spec),
        stage=staged(setting, spec, (spec.workspace, spec.socket_directory)),
        nice=_niceness(plan),
        seccomp=setting.open_seccomp.hex() if filtered else "",
        reports=False,
    )


def _niceness(plan: Plan) -> int:
    return 0 if levels.CPU in plan.in_force else 10


def _processors(setting: Setting, spec: Spec) -> tuple[int, ...]:
    return setting.processors[: processor_count(spec.limits)]

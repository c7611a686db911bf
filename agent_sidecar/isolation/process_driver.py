"""The `process` driver: agents as sandboxed processes of this host, by bubblewrap, seccomp, cgroups and a uid of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.isolation import bridge, bubblewrap, plan, probe, slot
from agent_sidecar.isolation.accounts import homes_of_people
from agent_sidecar.isolation.barriers import etc, seccomp, view
from agent_sidecar.isolation.commands import Setting
from agent_sidecar.isolation.interface import Capabilities, Handle, Plan, Refusal, Spec
from agent_sidecar.isolation.kernel import cgroup_layout, cgroup_places, processes
from agent_sidecar.isolation.kernel.cgroup_files import CgroupFiles, SystemCgroupFiles
from agent_sidecar.isolation.kernel.cgroups import RunGroups
from agent_sidecar.isolation.launcher_client import LauncherClient
from agent_sidecar.isolation.plan import HostFacts
from agent_sidecar.isolation.run import Run, Surroundings
from agent_sidecar.isolation.slot import Slot
from claude_conductor.clock import Clock, SystemClock
from claude_conductor.errors import StartFailedError

UID_RANGE = (61200, 61999)
"""Uids for agents of root sidecars: above those systems give to people, below 65536 so that the maps of containers hold them."""
CLOSE_GRACE = 2.0
SWEEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a driver is made of; `make_process_driver` puts it together."""

    slot: Slot
    launcher: LauncherClient
    host: probe.Host
    setting: Setting
    clock: Clock
    files: CgroupFiles
    capabilities: Capabilities
    facts: HostFacts
    group_list: Path | None


class ProcessDriver:
    """An isolation driver (see `interface.IsolationDriver`)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._runs: set[Run] = set()
        self._bridge_text = Path(bridge.__file__).read_bytes()
        self._closed = False

    @property
    def agent_uid(self) -> int:
        """Host uid the agent runs as; workspaces and sockets are given to it."""
        return self._parts.slot.uid

    @property
    def launcher_pid(self) -> int:
        """Process id of the launcher, for accounts of memory."""
        return self._parts.launcher.pid

    def probe(self) -> Capabilities:
        """Return what was found when the driver was made."""
        return self._parts.capabilities

    def plan(self, spec: Spec) -> Plan | Refusal:
        """Decide, without any effect, how the spec runs here - or why not."""
        return plan.decide(spec, self._parts.capabilities, self._parts.facts)

    async def start(self, plan: Plan) -> Handle:
        """Start what was planned; see the interface.

        Raises:
            IsolationRefusedError: The self-test found a mechanism not in force.
            StartFailedError: The run could not be set up, or the driver is closed.
        """
        if self._closed:
            raise StartFailedError("The isolation driver is closed.")
        parts = self._parts
        surroundings = Surroundings(parts.setting, parts.launcher, parts.clock, self._bridge_text, self._stragglers)
        groups = RunGroups(parts.files, parts.host.groups.places, parts.slot.prefix + plan.spec.run_id)
        run = Run(surroundings, plan, groups)
        self._runs = {each for each in self._runs if not each.clean} | {run}
        self._list_groups()
        await run.begin()
        return run

    async def sweep(self) -> list[str]:
        """Kill and remove the groups that earlier lives of this slot left; they are known by the slot's recorded prefix."""
        parts = self._parts
        mine = {run.group for run in self._runs}
        found: list[str] = []
        for place in parts.host.groups.places.distinct():
            found += [name for name in parts.files.children(place.parent) if name.startswith(parts.slot.prefix)]
        swept: list[str] = []
        for name in dict.fromkeys(each for each in found if each not in mine):
            groups = RunGroups(parts.files, parts.host.groups.places, name)
            swept += [f"process {pid} in {name}" for pid in sorted(groups.processes())]
            await self._empty(groups)
            swept.append(f"cgroup {name}")
        return swept

    async def close(self) -> None:
        """Stop everything that runs and release the slot. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.TaskGroup() as group:
                for index, run in enumerate(self._runs):
                    group.create_task(run.stop(CLOSE_GRACE), name=f"stop run {index}")
        finally:
            self._runs.clear()
            self._parts.launcher.close()
            self._parts.slot.release()

    def _stragglers(self, pid: int) -> frozenset[int]:
        """Return the descendants of a run and the orphans the launcher inherited; not what other runs own."""
        table = processes.parent_table()
        others = {run.pid for run in self._runs if run.pid != pid and not run.clean}
        spared = others.union(*(processes.descendants(each, table) for each in others))
        return processes.descendants(self._parts.launcher.pid, table) - spared - {pid}

    def _list_groups(self) -> None:
        """Write where the groups of all runs are, one folder a line, before the newest are made."""
        if self._parts.group_list is None:
            return
        places = self._parts.host.groups.places.distinct()
        lines = [f"{place.parent / run.group}\n" for run in self._runs for place in places]
        new = self._parts.group_list.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text("".join(lines))
        new.replace(self._parts.group_list)

    async def _empty(self, groups: RunGroups) -> None:
        deadline = self._parts.clock.monotonic() + SWEEP_SECONDS
        groups.kill()
        while groups.processes() or not groups.remove():
            if self._parts.clock.monotonic() > deadline:
                raise StartFailedError("Processes of an earlier run survive being killed.", group=groups.name)
            await asyncio.sleep(0.005)
            groups.kill()


def make_process_driver(
    state_folder: Path,
    lock_folder: Path,
    *,
    uid_range: tuple[int, int] = UID_RANGE,
    clock: Clock | None = None,
    files: CgroupFiles | None = None,
    bubblewraps: tuple[Path, ...] | None = None,
    group_list: Path | None = None,
    etc_folder: Path | None = None,
) -> ProcessDriver:
    """Take the slot, start the launcher and probe the host. Call it in the main thread; it blocks for about 0.1 s.

    Args:
        state_folder: Private to this slot, kept between lives: the recorded uid and prefix, and the files sandboxes are shown.
        lock_folder: Shared by all root sidecars of this host, whatever their home; holds a lock for each uid in use.
        uid_range: First and last uid for agents of a root sidecar.
        clock: Measures deadlines.
        files: The cgroup file system.
        bubblewraps: Programs to consider, best first; the system's and the packaged one if not given.
        etc_folder: What sandboxes are shown as /etc; made if it is not there, and may be shared by all slots of a home.
        group_list: File that always names the group folders of what runs, for whoever ends it if this process is killed.

    Raises:
        AlreadyRunningError: Another process holds the slot.
        IsolationRefusedError: No uid is free.
        StartFailedError: The launcher did not start.
    """
    taken = slot.take(state_folder, lock_folder, uid_range)
    with contextlib.ExitStack() as undo:
        undo.callback(taken.release)
        launcher = LauncherClient()
        undo.callback(launcher.close)
        groups = files or SystemCgroupFiles()
        host = _look_around(taken, groups, bubblewraps, etc_folder)
        found = probe.capabilities(host, launcher)
        parts = Parts(taken, launcher, host, _setting(host), clock or SystemClock(), groups, found, _facts(taken), group_list)
        driver = ProcessDriver(parts)
        undo.pop_all()
    return driver


def probe_host(scratch: Path, bubblewraps: tuple[Path, ...] | None = None) -> Capabilities:
    """Return what this host can isolate, without a sidecar (`conductor doctor`). Starts a launcher for a moment; leaves nothing.

    Args:
        scratch: An existing folder of the caller's to work in, for example a temporary one.
        bubblewraps: As for `make_process_driver`.

    Raises:
        ConductorError: The host could not even be examined.
    """
    taken = slot.take(scratch / "slot", scratch / "locks", UID_RANGE)
    launcher = LauncherClient()
    try:
        return probe.capabilities(_look_around(taken, SystemCgroupFiles(), bubblewraps, None), launcher)
    finally:
        launcher.close()
        taken.release()


def _look_around(taken: Slot, files: CgroupFiles, programs: tuple[Path, ...] | None, etc_folder: Path | None) -> probe.Host:
    shown = taken.folder.resolve() / "view"
    shown.mkdir(exist_ok=True, mode=0o755)
    shown.chmod(0o755)
    shown_etc = (etc_folder or shown / "etc").resolve()
    etc.build(shown_etc)
    packaged = bubblewrap.packaged()
    candidates = (*bubblewrap.SYSTEM, *((packaged,) if packaged else ())) if programs is None else programs
    chosen, problem = bubblewrap.find(candidates)
    layout = cgroup_layout.find(
        Path("/proc/self/mountinfo").read_text(),
        Path("/proc/self/cgroup").read_text(),
        lambda mount: files.read(mount / "cgroup.controllers"),
    )
    return probe.Host(
        slot=taken,
        bubblewrap=chosen,
        bubblewrap_problem=problem,
        view=probe.host_view(view.MASKED, shown_etc),
        view_folder=shown,
        seccomp=seccomp.for_machine(os.uname().machine),
        layout=layout,
        groups=cgroup_places.search(files, layout, os.geteuid(), taken.prefix + "probe"),
        systemd=probe.systemd_runs(),
    )


def _setting(host: probe.Host) -> Setting:
    python = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    base = Path(sys.base_prefix)
    processors = sorted(os.sched_getaffinity(0))
    first = int(host.slot.prefix.split("-")[1], 16) % len(processors)
    return Setting(
        uid=host.slot.uid,
        gid=host.slot.gid,
        bubblewrap=host.bubblewrap,
        host=host.view,
        view_folder=host.view_folder,
        python=python,
        python_folders=() if base.is_relative_to("/usr") else (base,),
        processors=tuple(processors[first:] + processors[:first]),
        seccomp=host.seccomp or b"",
        open_seccomp=seccomp.for_machine(os.uname().machine, nesting=True) or b"",
    )


def _facts(taken: Slot) -> HostFacts:
    return HostFacts(os.geteuid() == 0, taken.uid, homes_of_people())

"""Nothing outlives a sandbox, and nothing it writes fills the sidecar (cases 67, 69 and 70); the controls are plain processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_sidecar.isolation.interface import Cause
from agent_sidecar.isolation.kernel import processes
from agent_sidecar.isolation.process_driver import make_process_driver
from tests.contract.isolation_driver import LOCKS, UIDS, Sandbox, line_of, processes_with, until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: uids of their own tell whose is left")]

AT_ONCE = 50
DAEMON = "trap '' TERM; (setsid sh -c 'trap \"\" TERM HUP; sleep {0}; :' &) ; echo up; sleep {0}"


@pytest.fixture
async def sandbox(tmp_path: Path):
    driver = make_process_driver(tmp_path / "state", LOCKS, uid_range=UIDS, group_list=tmp_path / "groups")
    yield Sandbox(driver, tmp_path)
    await driver.close()


async def test_a_daemon_that_ignores_term_outlives_a_plain_process_and_no_sandbox(sandbox: Sandbox):
    command = ("/bin/sh", "-c", DAEMON.format("979"))
    run_and_kill(command)
    await until(lambda: processes_with("sleep\x00979", os.geteuid()))  # the control: a plain process leaves its daemon behind
    await until(lambda: ended_all("979"))
    async with sandbox.started(*command) as handle:
        assert await line_of(handle) == b"up\n"
        assert (await handle.stop(0.05)).cause is Cause.STOPPED
    assert not processes_with("sleep\x00979", sandbox.driver.agent_uid)


async def test_a_flood_of_output_costs_the_sidecar_no_memory(sandbox: Sandbox):
    flood = 64 << 20
    command = ("/bin/sh", "-c", f"head -c {flood} /dev/zero")
    tracemalloc.start()
    try:
        assert len(everything_from(command)) == flood
        assert tracemalloc.get_traced_memory()[1] >= flood, "the control: a reader that keeps everything"
        tracemalloc.reset_peak()
        before, length = tracemalloc.get_traced_memory()[0], 0
        async with sandbox.started(*command) as handle:
            async for _, chunk in handle.output():
                length += len(chunk)
        assert length == flood
        assert tracemalloc.get_traced_memory()[1] - before < 4 << 20
    finally:
        tracemalloc.stop()


def run_and_kill(command: Sequence[str]) -> None:
    """Start a plain process, wait for its first line, and kill it as a sandbox is killed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as plain:
        assert plain.stdout is not None
        assert plain.stdout.readline() == b"up\n"
        plain.kill()


def ended_all(seconds: str) -> bool:
    """Kill what a control left: the sleepers of so many seconds and the shells above them. Tell whether there were none."""
    left = {pid for words in (f"sleep {seconds}", f"sleep\0{seconds}") for pid in processes_with(words, os.geteuid())}
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not left


def everything_from(command: Sequence[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


@contextlib.contextmanager
def holding(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Start a process that holds sandboxes; yield it and the facts it tells."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        yield holder, json.loads(holder.stdout.readline())


def namespaces() -> set[str]:
    """Return every namespace that some process of this host is in."""
    found: set[str] = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                found |= {os.readlink(each) for each in (entry / "ns").iterdir()}  # no path, but a name
    return found


def users_within(sandboxes: Iterable[int]) -> set[str]:
    """Return the user namespaces of everything that runs in these sandboxes; not our own."""
    table = processes.parent_table()
    found: set[str] = set()
    for each in sandboxes:
        for pid in processes.descendants(each, table):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/ns/user"))  # no path, but a name
    return found - {os.readlink("/proc/self/ns/user")}


def of_uid(uid: int) -> list[int]:
    """Return all processes of a uid, those included that nobody has reaped."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == uid:
                found.append(int(entry.name))
    return found


def abstract_sockets() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if line.split()[-1].startswith("@")}


def children_left(pid: int) -> list[str]:
    """Return the states of a process's children, zombies included."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] for each in listed]


async def test_fifty_sandboxes_run_at_once_and_nothing_of_them_is_left(sandbox: Sandbox, tmp_path: Path):
    mounts, sockets = Path("/proc/self/mountinfo").read_text(), abstract_sockets()
    driver = sandbox.driver
    launcher = driver.launcher_pid  # type: ignore[attr-defined]  # of the process driver
    within = Path(f"/proc/{launcher}/mountinfo").read_text()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    plans = [sandbox.plan(sandbox.spec("/bin/sh", "-c", DAEMON.format("978"))) for _ in range(AT_ONCE)]
    handles = await asyncio.gather(*(driver.start(each) for each in plans))
    for handle in handles:
        assert await line_of(handle) == b"up\n"
    alive = {each.pid for each in handles}
    assert len(alive) == AT_ONCE
    theirs = users_within(each.pid for each in handles)
    assert len(theirs) >= AT_ONCE, "each has a user namespace of its own"
    groups = [Path(line) for line in (tmp_path / "groups").read_text().splitlines()]
    assert len({each.name for each in groups}) == AT_ONCE
    ended = await asyncio.gather(*(each.stop(0.05) for each in handles))
    assert {each.cause for each in ended} == {Cause.STOPPED}
    assert not any(each.exists() for each in groups)
    await until(lambda: not of_uid(driver.agent_uid), seconds=1.0)
    await until(lambda: not children_left(launcher), seconds=1.0)
    assert not theirs & namespaces()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert abstract_sockets() <= sockets
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 4  # noqa: PTH208  # what the loop itself keeps
    after = Path(f"/proc/{launcher}/mountinfo").read_text()
    points = [line.split()[4] for line in after.splitlines()]
    assert str(sandbox.base / "workspace") not in points
    assert len(after.splitlines()) <= len(within.splitlines()) + 4, "the launcher's view has not grown with the runs"


async def test_a_killed_holder_of_fifty_sandboxes_leaves_groups_alone_and_the_next_one_sweeps_them(tmp_path: Path):
    command = [sys.executable, "-m", "tests.contract.isolation_holder", str(tmp_path), str(AT_ONCE)]
    run_and_kill(("/bin/sh", "-c", "sleep 977 & echo up; wait"))
    await until(lambda: processes_with("sleep\x00977", os.geteuid()))  # the control: the child of a killed process lives on
    await until(lambda: ended_all("977"))

    mounts, sockets = Path("/proc/self/mountinfo").read_text(), abstract_sockets()
    with holding(command) as (holder, facts):
        assert len(set(facts["sandboxes"])) == AT_ONCE
        theirs = users_within(facts["sandboxes"])
        groups = [Path(line) for line in (tmp_path / "groups").read_text().splitlines()]
        holder.kill()
    await until(lambda: not any((each / "cgroup.procs").read_text().split() for each in groups), seconds=5.0)
    await until(lambda: not of_uid(facts["uid"]), seconds=5.0)
    assert not theirs & namespaces()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert abstract_sockets() <= sockets
    driver = make_process_driver(tmp_path / "state", LOCKS, uid_range=UIDS)
    try:
        swept = await driver.sweep()
        assert len(swept) == AT_ONCE
        assert not any(each.exists() for each in groups)
        with socket.socket(socket.AF_UNIX) as again:  # nothing holds the folder of sockets
            again.bind(str(tmp_path / "sockets" / "agent.sock"))
    finally:
        await driver.close()

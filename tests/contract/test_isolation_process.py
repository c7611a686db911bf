"""The process driver keeps the contract of isolation drivers, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_asyncio

if "tests.contract.isolation_driver" not in sys.modules:  # the escape suite may have been first
    pytest.register_assert_rewrite("tests.contract.isolation_driver")

from agent_sidecar.isolation import level as levels
from agent_sidecar.isolation.interface import Cause, Level, Refusal
from agent_sidecar.isolation.kernel.cgroup_files import SystemCgroupFiles
from agent_sidecar.isolation.process_driver import make_process_driver, probe_host
from claude_conductor.errors import AlreadyRunningError, StartFailedError
from tests.contract import isolation_users
from tests.contract.isolation_driver import (
    LOCKS,
    UIDS,
    IsolationDriverContract,
    Sandbox,
    line_of,
    processes_with,
    status_of,
    until,
)


class TestProcessDriver(IsolationDriverContract):
    """In this process, as whoever runs the tests."""

    @pytest_asyncio.fixture
    async def sandbox(self, tmp_path: Path):
        tmp_path.chmod(0o700)
        driver = make_process_driver(tmp_path / "state", LOCKS)
        made = Sandbox(driver, tmp_path)
        decided = driver.plan(made.spec("/bin/true"))
        if isinstance(decided, Refusal):
            await driver.close()
            assert os.geteuid() != 0, str(decided)
            pytest.skip(f"this user cannot run strict sandboxes here: {decided}")
        yield made
        await driver.close()


BEHAVIOURS = [name for name in dir(IsolationDriverContract) if name.startswith("test_")]


@pytest.fixture(scope="module")
def ordinary():
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    python = isolation_users.reachable_python(isolation_users.UID)
    if python is None:
        pytest.skip("no Python 3.11 that other users may execute: the tests' own is private, and there is no /usr/bin/python3")
    if isolation_users.this_layout().name == "v2":
        pytest.skip("on cgroup v2 a user's groups need a session that starts in them")
    with isolation_users.user(python) as made:
        yield made


@pytest.fixture(scope="module")
def results_of_a_user(ordinary) -> dict[str, str]:
    base = ordinary.home / "runs"
    base.mkdir(mode=0o700)
    os.chown(base, ordinary.uid, ordinary.uid)
    with isolation_users.delegated(ordinary.uid):
        done = ordinary.run(str(ordinary.home / "code/tests/contract/isolation_as_user.py"), str(base))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.root
@pytest.mark.timeout(300)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_ordinary_users_sidecar_keeps_the_contract(results_of_a_user: dict[str, str], behaviour: str):
    assert results_of_a_user[behaviour] == ""


@pytest.mark.root
def test_without_delegation_strict_is_refused_with_the_line_that_grants_it(ordinary):
    text = (
        "import sys; from pathlib import Path\n"
        "from agent_sidecar.isolation.process_driver import make_process_driver\n"
        "from agent_sidecar.isolation.interface import Limits, Spec\n"
        "base = Path(sys.argv[1]); base.mkdir(); driver = make_process_driver(base / 'state', base / 'locks')\n"
        "print(driver.plan(Spec('a', 'r', ('true',), {}, base, base, limits=Limits(workspace_bytes=0))))\n"
    )
    done = ordinary.run("-c", text, str(ordinary.home / "undelegated"))
    assert done.stdout.startswith("isolation level strict is not possible here - cgroup.memory:"), done.stdout + done.stderr
    assert "sudo sh -c 'mkdir -p " in done.stdout
    assert f"conductor-{ordinary.uid}" in done.stdout
    assert "--level moderate" in done.stdout


def hold(base: Path):
    """Start a process that holds a driver with a busy sandbox; return it and the facts it tells."""
    process = subprocess.Popen([sys.executable, "-m", "tests.contract.isolation_holder", str(base)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the holder did not start"
    return process, json.loads(line)


def is_over(pid: int) -> bool:
    """Tell whether a process is gone; one that only waits for its new parent counts."""
    try:
        return status_of(pid)["State"][0] in ("Z", "X")
    except FileNotFoundError:
        return True


def groups_of(base: Path) -> list[Path]:
    return [Path(line) for line in (base / "groups").read_text().splitlines()]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an agent uid of its own tells whose processes are left")
async def test_a_killed_sidecar_leaves_no_process_and_the_next_one_sweeps_its_groups(tmp_path: Path):
    process, facts = hold(tmp_path)
    groups = groups_of(tmp_path)
    assert groups
    assert all(each.is_dir() for each in groups)
    process.kill()
    process.communicate()
    await until(lambda: not any((each / "cgroup.procs").read_text().split() for each in groups), seconds=1.0)
    await until(lambda: is_over(facts["launcher"]), seconds=1.0)
    assert not processes_with("", facts["uid"])

    driver = make_process_driver(tmp_path / "state", LOCKS, uid_range=UIDS)
    try:
        assert driver.agent_uid == facts["uid"]
        swept = await driver.sweep()
        assert swept == [f"cgroup {groups[0].name}"]
        assert not any(each.exists() for each in groups)
        assert await driver.sweep() == []
    finally:
        await driver.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only its sidecar takes a mount namespace and uids")
async def test_nothing_is_mounted_on_the_host_and_two_slots_have_two_uids(tmp_path: Path):
    before = Path("/proc/self/mountinfo").read_text()
    one = make_process_driver(tmp_path / "one", LOCKS)
    two = make_process_driver(tmp_path / "two", LOCKS)
    try:
        assert one.agent_uid != two.agent_uid
        async with Sandbox(one, tmp_path / "base").started("/bin/cat") as handle:
            assert Path("/proc/self/mountinfo").read_text() == before
            assert os.readlink(f"/proc/{handle.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
        with pytest.raises(AlreadyRunningError):
            make_process_driver(tmp_path / "one", LOCKS)
    finally:
        await one.close()
        await two.close()
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the launcher's own root is what hides a private home")
async def test_an_agents_uid_cannot_reach_the_host_through_the_launchers_root(tmp_path: Path):
    driver = make_process_driver(tmp_path / "state", LOCKS)
    try:
        sandbox = Sandbox(driver, tmp_path, level=Level.MINIMAL)
        (tmp_path / "secret").write_text("secret")
        ended = await sandbox.shell(f"ls /.host; ls -d /root/.* /home /var; cat {tmp_path}/secret; id -u; pwd; echo kept > file")
        assert ended.stdout.split() == [str(driver.agent_uid), str(sandbox.workspace)]
        assert (sandbox.workspace / "file").read_text() == "kept\n"
    finally:
        await driver.close()


async def test_what_doctor_shows_is_probed_without_a_sidecar(tmp_path: Path):
    found = probe_host(tmp_path)
    assert {each.name for each in found.mechanisms} == set(levels.EVERY)
    assert all(each.detail for each in found.mechanisms)


@pytest.mark.parametrize("level", [Level.MODERATE, Level.MINIMAL])
async def test_lower_levels_keep_what_every_level_keeps(tmp_path: Path, level: Level):
    driver = make_process_driver(tmp_path / "state", LOCKS)
    try:
        sandbox = Sandbox(driver, tmp_path, level=level)
        ended = await sandbox.shell("grep NoNewPrivs /proc/self/status; echo $SECRET; exit 5")
        assert ended.stdout.split() == ["NoNewPrivs:", "1"]
        assert ended.exit.code == 5
        async with sandbox.started("/bin/sh", "-c", "trap '' TERM; setsid sleep 983 & sleep 983") as handle:
            assert set(status_of(handle.pid)["Uid"]) == {str(driver.agent_uid)}
            assert "0" not in status_of(handle.pid)["Uid"]
            assert (await handle.stop(0.05)).cause is Cause.STOPPED
        assert not processes_with("sleep\x00983", driver.agent_uid)
    finally:
        await driver.close()


class NoGroups(SystemCgroupFiles):
    """A cgroup file system in which nothing may be created."""

    def make(self, path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize("level", [Level.MODERATE, Level.MINIMAL])
async def test_without_cgroups_lower_levels_say_what_is_weaker_and_leave_nothing(tmp_path: Path, level: Level):
    driver = make_process_driver(tmp_path / "state", LOCKS, files=NoGroups())
    try:
        strict = driver.plan(Sandbox(driver, tmp_path).spec("/bin/true"))
        assert isinstance(strict, Refusal)
        assert {each.name for each in strict.missing} == {"cgroup.memory", "cgroup.cpu", "cgroup.pids", "cgroup.kill"}
        sandbox = Sandbox(driver, tmp_path, level=level)
        decided = driver.plan(sandbox.spec("/bin/true"))
        assert not isinstance(decided, Refusal)
        assert {each.split(":")[0] for each in decided.degraded} == {"cgroup.memory", "cgroup.cpu", "cgroup.pids", "cgroup.kill"}
        text = "trap '' TERM; for i in 1 2 3; do setsid sh -c 'sleep 982' & done"
        text += "; setsid sh -c 'setsid sleep 982 &'; echo up; sleep 982"
        async with sandbox.started("/bin/sh", "-c", text) as handle:
            assert await line_of(handle) == b"up\n"
            assert (await handle.stop(0.05)).cause is Cause.STOPPED
        assert not processes_with("sleep\x00982", driver.agent_uid)
    finally:
        await driver.close()


async def test_the_death_of_the_launcher_ends_its_runs_and_refuses_new_ones(tmp_path: Path):
    driver = make_process_driver(tmp_path / "state", LOCKS)
    try:
        sandbox = Sandbox(driver, tmp_path, level=Level.MODERATE)
        async with sandbox.started("/bin/sleep", "981") as handle:
            os.kill(driver.launcher_pid, signal.SIGKILL)
            assert (await handle.wait()).cause is Cause.SIGNALLED
            await handle.stop(0.0)
            assert not processes_with("sleep\x00981", driver.agent_uid)
        with pytest.raises(StartFailedError):
            await sandbox.shell("true")
        assert await driver.sweep() == []
    finally:
        await driver.close()

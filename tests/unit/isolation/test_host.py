import os
import subprocess
from pathlib import Path

import pytest

from agent_sidecar.isolation import remedy
from agent_sidecar.isolation.barriers import etc
from agent_sidecar.isolation.interface import Limits
from agent_sidecar.isolation.kernel import mount_table, processes
from agent_sidecar.isolation.kernel.cgroup_layout import Hierarchy, Layout

V1 = Layout(
    tuple(Hierarchy(1, Path(f"/sys/fs/cgroup/{name}"), frozenset({name}), "/") for name in ("memory", "cpu", "pids", "cpuacct"))
)
V2 = Layout((Hierarchy(2, Path("/sys/fs/cgroup"), frozenset({"memory", "cpu", "pids"}), "/"),))


def test_a_user_without_systemd_is_told_a_line_that_makes_and_gives_him_each_group():
    line = remedy.delegation(V1, 1000, systemd=False)
    for name in ("memory", "cpu", "pids", "cpuacct"):
        assert line.count(f"/sys/fs/cgroup/{name}/conductor-1000") == 2
    assert line.startswith("sudo sh -c 'mkdir -p ")
    assert "chown 1000 " in line


def test_a_user_with_systemd_on_version_2_is_told_to_ask_it():
    assert remedy.delegation(V2, 1000, systemd=True) == "systemd-run --user --scope -p Delegate=yes conductor start"


def test_a_user_on_version_2_without_systemd_starts_in_his_group():
    line = remedy.delegation(V2, 1000, systemd=False)
    assert "+memory +cpu +pids" in line
    assert "/sys/fs/cgroup/conductor-1000/cgroup.procs" in line


def test_without_cgroups_there_is_no_line():
    assert remedy.delegation(Layout(()), 1000, systemd=True) == ""


@pytest.mark.parametrize(
    "line",
    [
        *(remedy.delegation(each, 1, systemd=False) for each in (V1, V2)),
        remedy.profile_for(Path("/opt/b")),
        remedy.mounting("memory"),
    ],
)
def test_a_remedy_is_valid_shell(line):
    assert subprocess.run(["/bin/sh", "-n", "-c", line], check=False).returncode == 0


def test_the_profile_is_for_one_program_and_nothing_global():
    line = remedy.profile_for(Path("/opt/bwrap"))
    assert "/opt/bwrap" in line
    assert "sysctl" not in line


def test_the_etc_of_a_sandbox_has_users_of_its_own_and_no_secrets(tmp_path):
    source = tmp_path / "host"
    (source / "ssl/certs").mkdir(parents=True)
    for name in ("shadow", "resolv.conf", "machine-id", "passwd", "ld.so.cache", "ssl/certs/ca.pem"):
        (source / name).write_text("host")
    etc.build(tmp_path / "etc", source)
    etc.build(tmp_path / "etc", source)
    names = {each.relative_to(tmp_path / "etc").as_posix() for each in (tmp_path / "etc").rglob("*") if each.is_file()}
    assert names == {"passwd", "group", "nsswitch.conf", "hosts", "hostname", "ld.so.cache", "ssl/certs/ca.pem"}
    assert "agent:x:1000" in (tmp_path / "etc/passwd").read_text()


def test_a_capped_machine_shows_its_memory_and_processors(tmp_path):
    etc.build_capped(tmp_path, Limits(memory_bytes=1 << 30, cpus=2.5))
    assert "MemTotal:        1048576 kB\n" in (tmp_path / "meminfo").read_text()
    assert (tmp_path / "sys/devices/system/cpu/online").read_text() == "0-2\n"


def test_descendants_are_found_through_any_depth_and_loops_do_not_hang():
    table = {2: 1, 3: 2, 4: 3, 9: 8, 5: 6, 6: 5}
    assert processes.descendants(2, table) == {3, 4}
    assert processes.descendants(5, table) == {5, 6}
    assert processes.descendants(7, table) == frozenset()


def test_the_process_table_holds_this_process():
    assert processes.parent_table()[os.getpid()] == os.getppid()


def test_a_mount_table_is_read_with_odd_names_and_propagation():
    text = "36 35 98:0 /a\\040b /mnt\\134x rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue\nbroken\n"
    (mount,) = mount_table.parse(text)
    assert (mount.root, str(mount.point), mount.shared, mount.kind) == ("/a b", "/mnt\\x", True, "ext4")
    assert mount.options == {"rw", "noatime"}

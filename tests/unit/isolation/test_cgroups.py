from pathlib import Path

import pytest

from agent_sidecar.isolation.interface import Limits
from agent_sidecar.isolation.kernel import cgroup_layout, cgroup_places
from agent_sidecar.isolation.kernel.cgroup_layout import Hierarchy, Layout
from agent_sidecar.isolation.kernel.cgroups import RunGroups
from tests.fakes.cgroup_files import FakeCgroupFiles

LIMITS = Limits(memory_bytes=64 << 20, cpus=0.5, pids=20)
V1 = {f"/cg/{name}": (1, (name,)) for name in ("memory", "cpu", "pids", "cpuacct")}
V2 = {"/cg": (2, ("memory", "cpu", "pids"))}
HYBRID = V1 | {"/cg/unified": (2, ())}


def layout(mounts, own="/"):
    found = [Hierarchy(version, Path(name), frozenset(names), own) for name, (version, names) in mounts.items()]
    return Layout(tuple(found))


def groups(mounts):
    files = FakeCgroupFiles(mounts)
    found = cgroup_places.search(files, layout(mounts), 0, "conductor-x-probe")
    return files, RunGroups(files, found.places, "conductor-x-run1")


@pytest.mark.parametrize(("mounts", "name"), [(V1, "v1"), (V2, "v2"), (HYBRID, "hybrid"), ({}, "none")])
def test_a_layout_knows_its_name(mounts, name):
    assert layout(mounts).name == name


@pytest.mark.parametrize("mounts", [V1, V2, HYBRID], ids=["v1", "v2", "hybrid"])
def test_probing_leaves_nothing_and_finds_every_limit(mounts):
    files = FakeCgroupFiles(mounts)
    found = cgroup_places.search(files, layout(mounts), 0, "conductor-x-probe")
    assert None not in (found.places.memory, found.places.cpu, found.places.pids)
    assert files.groups == set(files.mounts)


def test_version_1_limits_memory_with_swap_processor_and_pids():
    files, made = groups(V1)
    made.create(LIMITS)
    assert files.texts[Path("/cg/memory/conductor-x-run1/memory.limit_in_bytes")] == str(64 << 20)
    assert files.texts[Path("/cg/memory/conductor-x-run1/memory.memsw.limit_in_bytes")] == str(64 << 20)
    assert files.texts[Path("/cg/cpu/conductor-x-run1/cpu.cfs_quota_us")] == "50000"
    assert files.texts[Path("/cg/pids/conductor-x-run1/pids.max")] == "20"


def test_version_1_without_swap_accounting_forbids_swapping_instead():
    files, made = groups(V1)
    before = files.make

    def make(path):
        before(path)
        files.texts.pop(path / "memory.memsw.limit_in_bytes", None)

    files.make = make
    made.create(LIMITS)
    assert files.texts[Path("/cg/memory/conductor-x-run1/memory.swappiness")] == "0"


def test_version_2_limits_everything_in_one_group_and_kills_it_as_one():
    files, made = groups(V2)
    made.create(LIMITS)
    group = Path("/cg/conductor-x-run1")
    assert files.texts[group / "memory.max"] == str(64 << 20)
    assert files.texts[group / "memory.swap.max"] == "0"
    assert files.texts[group / "memory.oom.group"] == "1"
    assert files.texts[group / "cpu.max"] == "50000 100000"
    assert files.texts[group / "pids.max"] == "20"
    assert made.birth_group() == group
    assert made.join_files() == ()


def test_a_hybrid_host_limits_by_version_1_and_kills_by_version_2():
    files, made = groups(HYBRID)
    made.create(LIMITS)
    assert made.birth_group() == Path("/cg/unified/conductor-x-run1")
    assert {path.name for path in made.join_files()} == {"tasks"}
    made.kill()
    assert files.texts[Path("/cg/unified/conductor-x-run1/cgroup.kill")] == "1"


def test_a_refused_limit_leaves_no_group_behind():
    files, made = groups(HYBRID)
    files.refused.add(Path("/cg/pids/conductor-x-run1/pids.max"))
    with pytest.raises(PermissionError):
        made.create(LIMITS)
    assert files.groups == set(files.mounts)


@pytest.mark.parametrize(
    ("mounts", "group", "texts"),
    [
        (
            V1,
            "/cg/memory/conductor-x-run1",
            {"memory.usage_in_bytes": "5", "memory.max_usage_in_bytes": "9", "memory.oom_control": "oom_kill 2"},
        ),
        (V2, "/cg/conductor-x-run1", {"memory.current": "5", "memory.peak": "9", "memory.events": "oom 7\noom_kill 2"}),
    ],
    ids=["v1", "v2"],
)
def test_use_and_kills_are_read_from_the_files_of_each_version(mounts, group, texts):
    files, made = groups(mounts)
    made.create(LIMITS)
    files.texts |= {Path(group) / name: text for name, text in texts.items()}
    stats = made.stats()
    assert (stats.memory_bytes, stats.memory_peak_bytes, stats.oom_kills) == (5, 9, 2)


def test_processor_time_and_waiting_are_seconds_on_both_versions():
    files, made = groups(V1)
    made.create(LIMITS)
    files.texts[Path("/cg/cpuacct/conductor-x-run1/cpuacct.usage")] = "1500000000"
    files.texts[Path("/cg/cpu/conductor-x-run1/cpu.stat")] = "nr_periods 1\nthrottled_time 250000000"
    assert (made.stats().cpu_seconds, made.stats().throttled_seconds) == (1.5, 0.25)
    files, made = groups(V2)
    made.create(LIMITS)
    files.texts[Path("/cg/conductor-x-run1/cpu.stat")] = "usage_usec 1500000\nthrottled_usec 250000"
    assert (made.stats().cpu_seconds, made.stats().throttled_seconds) == (1.5, 0.25)


def test_after_the_end_the_last_known_use_is_returned():
    files, made = groups(V2)
    made.create(LIMITS)
    files.texts[Path("/cg/conductor-x-run1/memory.peak")] = "77"
    made.stats()
    assert made.remove()
    assert made.stats().memory_peak_bytes == 77


def test_a_busy_group_is_reported_and_removed_later():
    files, made = groups(V1)
    made.create(LIMITS)
    files.busy.add(Path("/cg/pids/conductor-x-run1"))
    assert made.remove() is False
    files.busy.clear()
    assert made.remove() is True
    assert files.groups == set(files.mounts)


def test_a_user_uses_the_groups_that_were_given_to_him():
    files = FakeCgroupFiles(V1)
    for name in ("memory", "cpu", "pids", "cpuacct"):
        files.make(Path(f"/cg/{name}/conductor-1000"))
    found = cgroup_places.search(files, layout(V1), 1000, "conductor-x-probe")
    assert found.places.memory is not None
    assert found.places.memory.parent == Path("/cg/memory/conductor-1000")


def test_a_user_without_delegation_gets_no_place_and_the_reason():
    files = FakeCgroupFiles(V1)
    files.refused |= {Path(f"/cg/{name}/conductor-x-probe") for name in ("memory", "cpu", "pids", "cpuacct")}
    found = cgroup_places.search(files, layout(V1), 1000, "conductor-x-probe")
    assert found.places.distinct() == ()
    assert "Permission denied" in found.problems["memory"]


def test_a_user_cannot_be_born_in_a_version_2_group_outside_his_own_subtree():
    files = FakeCgroupFiles(HYBRID)
    files.unwritable.add(Path("/cg/unified/cgroup.procs"))
    found = cgroup_places.search(files, layout(HYBRID), 1000, "conductor-x-probe")
    assert found.places.kill is None
    assert "delegated" in found.problems["kill"]


def test_in_a_delegated_version_2_group_our_own_processes_move_into_a_leaf():
    files = FakeCgroupFiles(V2)
    scope = Path("/cg/user.scope")
    files.texts[Path("/cg/cgroup.subtree_control")] = "memory cpu pids"
    files.make(scope)
    files.texts[scope / "cgroup.procs"] = "41\n42\n"
    found = cgroup_places.search(files, layout(V2, own="/user.scope"), 1000, "conductor-x-probe")
    assert found.places.memory is not None
    assert found.places.memory.parent == scope
    assert (scope / "conductor-main" / "cgroup.procs", "42") in files.writes
    assert files.texts[scope / "cgroup.subtree_control"] == "cpu memory pids"


def test_a_second_sidecar_in_the_leaf_uses_the_scope_above_it():
    hierarchy = Hierarchy(2, Path("/cg"), frozenset({"memory"}), "/user.scope/conductor-main")
    assert cgroup_layout.candidates(hierarchy, 1000) == (Path("/cg/conductor-1000"), Path("/cg/user.scope"))


MOUNTINFO = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
"""


def test_the_layout_is_read_from_the_mount_table_with_co_mounted_controllers():
    own = "4:memory:/a\n3:cpu,cpuacct:/b\n1:name=systemd:/s\n0::/c\n"
    found = cgroup_layout.find(MOUNTINFO, own, lambda mount: "hugetlb pids\n" if mount.name == "uni fied" else "")
    assert found.name == "hybrid"
    assert found.carrier("cpu") == found.carrier("cpuacct")
    assert found.carrier("pids") == found.version2
    assert {each.mount.name: each.own for each in found.hierarchies if each.controllers} == {
        "cpu,cpuacct": "/b", "memory": "/a", "uni fied": "/c",
    }  # fmt: skip

from pathlib import Path

from claude_conductor.supervisor import cgroups


def make(folder: Path):
    folder.mkdir(parents=True)
    return folder


def test_only_folders_of_ours_under_the_root_are_chosen(tmp_path: Path):
    root = make(tmp_path / "cgroup")
    good = make(root / "pids" / "conductor-a")
    foreign = make(root / "pids" / "user.slice")
    outside = make(tmp_path / "conductor-outside")
    (root / "conductor-link").symlink_to(outside)
    listed = "\n".join(
        str(each)
        for each in (good, foreign, outside, root / "conductor-link", root / "conductor-missing", good / "..", "conductor-a", "")
    )

    assert cgroups.ours(listed, str(root)) == (str(good),)


def test_dots_that_leave_the_root_are_resolved_before_the_check(tmp_path: Path):
    root = make(tmp_path / "cgroup")
    make(tmp_path / "conductor-x")

    assert cgroups.ours(f"{root}/../conductor-x", str(root)) == ()


def test_cgroup_kill_is_written_where_the_kernel_has_it(tmp_path: Path):
    group = make(tmp_path / "conductor-a")
    (group / "cgroup.kill").write_text("")

    left = cgroups.kill((str(group),), bound=0.0)

    assert (group / "cgroup.kill").read_text() == "1"
    assert left == (str(group),)  # a plain folder with a file in it cannot be removed, and that is reported


def test_an_empty_group_is_removed(tmp_path: Path):
    group = make(tmp_path / "conductor-a")
    make(group / "nested")

    assert cgroups.kill((str(group),)) == ()
    assert not group.exists()

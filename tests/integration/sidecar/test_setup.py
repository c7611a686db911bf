"""The set-up command of a workspace: before the agent, once for the same lock file, and with its failure told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from claude_conductor.v1 import session_service_pb2 as pb
from claude_conductor.v1 import task_pb2
from tests.fakes.repository import git, make_repository
from tests.fakes.scripted_control_plane import FakeControlPlane
from tests.fakes.sidecar_process import SidecarProcess
from tests.integration.sidecar.conftest import Start
from tests.integration.sidecar.test_sidecar_isolated import start as start_isolated
from tests.integration.sidecar.test_sidecar_tasks import failure_of, shell


def setup(line: str, **more: object) -> task_pb2.Setup:
    return task_pb2.Setup(command=["/bin/sh", "-c", line], keep=[".venv", "node_modules"], **more)


def source(folder: Path) -> task_pb2.WorkspaceSource:
    return task_pb2.WorkspaceSource(git=task_pb2.GitWorkspace(repository=str(folder)))


def written(plane: FakeControlPlane, stream: str, task_id: str) -> str:
    reports = [request.report for request in plane.taken if request.report.lease.task_id == task_id]
    return b"".join(each.output.data for each in reports if each.HasField("output") and each.output.stream == stream).decode()


async def result_of(plane: FakeControlPlane, task_id: str, spec: task_pb2.TaskSpec) -> task_pb2.TaskResult:
    def ended() -> list[pb.ConnectRequest]:
        return [each for each in plane.taken if each.report.HasField("completed") and each.report.lease.task_id == task_id]

    plane.assign(task_id, spec)
    await plane.until(ended, 60)
    return ended()[0].report.completed


async def test_a_set_up_runs_in_the_workspace_before_the_agent_and_its_output_stands_apart(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path
):
    make_repository(tmp_path / "repository")
    spec = shell(
        "cat .venv/made; ls .venv; echo mine > new.txt",
        workspace=source(tmp_path / "repository"),
        setup=setup("mkdir .venv; echo ready > .venv/made; echo installing; echo careful >&2"),
    )
    result = await result_of(plane, "task_1", spec)
    assert not result.HasField("failure"), sidecar.log()
    assert written(plane, "stdout", "task_1").split() == ["ready", "made"]
    assert sorted(written(plane, "setup", "task_1").split()) == ["careful", "installing"]
    assert result.patch.files == 1, "what the set-up made is no part of the patch"
    offsets = [(each.offset, len(each.data)) for each in plane.output("setup") + plane.output("stdout")]
    assert all(offset + size <= after for (offset, size), (after, _) in pairwise(offsets))


async def test_a_set_up_that_fails_ends_the_task_with_its_last_lines_and_without_an_agent(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    spec = shell("echo never", setup=setup("echo one; echo no such package >&2; exit 3"))
    result = await result_of(plane, "task_1", spec)
    assert failure_of(result) == "SETUP"
    assert "exit code 3" in result.failure.message
    assert "no such package" in result.failure.message
    assert not result.failure.retryable
    assert written(plane, "stdout", "task_1") == ""
    assert not any(request.report.HasField("started") for request in plane.taken)


async def test_a_set_up_has_a_time_of_its_own_beside_that_of_the_start(plane: FakeControlPlane, start_sidecar: Start):
    sidecar = await start_sidecar(startup_timeout=1.0)
    slow = setup("sleep 1.5")
    result = await result_of(plane, "task_1", shell("echo fine", setup=slow))
    assert not result.HasField("failure"), sidecar.log()
    slow.timeout.FromMilliseconds(300)
    slow.command[2] = "echo begun; sleep 60"
    result = await result_of(plane, "task_2", shell("echo never", setup=slow))
    assert failure_of(result) == "SETUP"
    assert "--setup-timeout" in result.failure.message
    spec = shell("echo never", setup=setup("sleep 60"))
    spec.timeout.FromMilliseconds(500)
    assert failure_of(await result_of(plane, "task_3", spec)) == "TIMEOUT"


async def test_a_task_that_is_cancelled_ends_its_set_up(plane: FakeControlPlane, sidecar: SidecarProcess):
    lease = plane.assign("task_1", shell("echo never", setup=setup("echo begun; sleep 60")))
    await plane.until(lambda: "begun" in written(plane, "setup", "task_1"))
    plane.say(pb.ConnectResponse(cancellation=pb.TaskCancellation(lease=lease, reason="enough")))
    result = await plane.result()
    assert failure_of(result) == "CANCELLED", sidecar.log()


async def test_the_same_lock_file_means_no_second_set_up_and_no_shared_files(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path
):
    place = tmp_path / "repository"
    make_repository(place)
    (place / "x.lock").write_text("a==1\n")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "lock")
    counted = tmp_path / "count"
    line = f"mkdir -p .venv/bin; echo ready > .venv/bin/tool; chmod 755 .venv/bin/tool; ln -s bin .venv/link; echo x >> {counted}"
    spec = shell(
        "cat .venv/link/tool; ls -l .venv/bin/tool | cut -c1-10; echo evil > .venv/bin/tool; echo own > file.txt",
        workspace=source(place),
        setup=setup(line, cache_files=["x.lock"]),
    )
    for task_id in ("task_1", "task_2", "task_3"):
        result = await result_of(plane, task_id, spec)
        assert not result.HasField("failure"), (result, sidecar.log())
        assert written(plane, "stdout", task_id).split() == ["ready", "-rwxr-xr-x"], "an agent's changes do not reach the next"
        assert result.patch.files == 1
    assert counted.read_text() == "x\n"
    assert "skipped" in written(plane, "setup", "task_2")
    (place / "x.lock").write_text("a==2\n")
    git(place, "commit", "-qam", "another")
    await result_of(plane, "task_4", spec)
    assert counted.read_text() == "x\nx\n"
    spec.setup.command[2] += "; true"
    await result_of(plane, "task_5", spec)
    assert counted.read_text() == "x\nx\nx\n"


async def test_without_room_for_a_cache_each_set_up_runs(plane: FakeControlPlane, start_sidecar: Start, tmp_path: Path):
    sidecar = await start_sidecar(setup_cache_bytes=0)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.lock").write_text("1")
    spec = shell("true", setup=setup("mkdir .venv; echo ran", cache_files=["x.lock"]))
    spec.workspace.folder.path = str(folder)
    for task_id in ("task_1", "task_2"):
        assert not (await result_of(plane, task_id, spec)).HasField("failure"), sidecar.log()
        assert written(plane, "setup", task_id) == "ran\n"


async def test_what_a_failed_set_up_made_is_not_kept(plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.lock").write_text("1")
    flag = tmp_path / "flag"
    line = f"test ! -e .venv || exit 9; mkdir .venv; test -e {flag} || {{ touch {flag}; exit 1; }}; echo good > .venv/a"
    spec = shell("cat .venv/a", setup=setup(line, cache_files=["x.lock"]))
    spec.workspace.folder.path = str(folder)
    assert failure_of(await result_of(plane, "task_1", spec)) == "SETUP"
    assert not (await result_of(plane, "task_2", spec)).HasField("failure"), sidecar.log()
    assert written(plane, "stdout", "task_2") == "good\n"


async def test_what_the_source_has_already_is_not_taken_from_the_cache(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path
):
    place = tmp_path / "repository"
    make_repository(place)
    (place / "node_modules").mkdir()
    (place / "node_modules/own.js").write_text("1\n")
    (place / "x.lock").write_text("1\n")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "vendored")
    spec = shell("echo 2 > node_modules/own.js", workspace=source(place), setup=setup("true", cache_files=["x.lock"]))
    result = await result_of(plane, "task_1", spec)
    assert result.patch.files == 1, "a file of the repository counts wherever it lies"
    assert "not cached: node_modules" in written(plane, "setup", "task_1")


async def test_a_set_up_is_isolated_as_the_agent_is_and_has_no_door(plane: FakeControlPlane, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.lock").write_text("1")
    sidecar = await start_isolated(plane, tmp_path)
    try:
        line = "mkdir .venv; id -u > .venv/uid; cat /proc/net/dev | wc -l > .venv/net; ls -A /run/conductor > .venv/doors; env"
        spec = shell("cat .venv/uid .venv/net .venv/doors; touch .venv/x", setup=setup(line, cache_files=["x.lock"]))
        spec.workspace.folder.path = str(folder)
        for task_id in ("task_1", "task_2"):
            result = await result_of(plane, task_id, spec)
            assert not result.HasField("failure"), (result, sidecar.log())
            assert written(plane, "stdout", task_id).split() == ["1000", "3"], "its own uid, loopback only, no socket"
        assert "CONDUCTOR_SOCKET" not in written(plane, "setup", "task_1")
        assert "skipped" in written(plane, "setup", "task_2")
        assert (tmp_path / "setups").stat().st_mode & 0o777 == 0o700
    finally:
        assert await sidecar.stop() == 0, sidecar.log()

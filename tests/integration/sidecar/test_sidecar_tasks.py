"""A real sidecar process against a scripted control plane: how tasks begin and end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import psutil
import pytest

from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.v1 import session_service_pb2 as pb
from tests.fakes.repository import apply, make_repository
from tests.fakes.scripted_control_plane import FakeControlPlane
from tests.fakes.sidecar_process import SidecarProcess, settings
from tests.fakes.waiting import eventually

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def shell(line: str, **more: object) -> task_pb2.TaskSpec:
    return task_pb2.TaskSpec(driver="command", command=["/bin/sh", "-c", line], **more)


def failure_of(result: task_pb2.TaskResult) -> str:
    return task_pb2.FailureKind.Name(result.failure.kind).removeprefix("FAILURE_KIND_")


def started(plane: FakeControlPlane) -> bool:
    return any(request.report.HasField("started") for request in plane.taken)


async def test_a_task_runs_from_assignment_to_result(plane: FakeControlPlane, sidecar: SidecarProcess):
    hello = plane.hellos[0]
    assert (hello.protocol_version, hello.strongest_level) == (1000, agent_pb2.ISOLATION_LEVEL_STRICT)
    assert hello.capacity.memory_bytes == psutil.virtual_memory().total
    assert hello.capacity.cpus == len(os.sched_getaffinity(0))
    assert 0 < hello.capacity.pids <= int(Path("/proc/sys/kernel/pid_max").read_text())
    assert plane.tokens == ["Bearer sidecar-token"]
    plane.assign("task_1", shell("echo hello; echo oops >&2; env"), traceparent=TRACE)
    result = await plane.result()
    assert not result.HasField("failure"), sidecar.log()
    assert result.exit_code == 0
    assert "hello" in result.summary
    stdout = b"".join(output.data for output in plane.output("stdout")).decode()
    assert "CONDUCTOR_TASK_ID=task_1\n" in stdout
    assert "CONDUCTOR_AGENT_ID=agent-1\n" in stdout
    assert f"TRACEPARENT={TRACE[:35]}" in stdout
    assert "sidecar-token" not in stdout
    assert b"".join(output.data for output in plane.output("stderr")) == b"oops\n"
    assert result.usage.memory_peak_bytes == 2 << 20
    assert result.isolation.driver == "fake"
    kinds = [request.report.WhichOneof("report") for request in plane.taken if request.HasField("report")]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    assert [request.sequence for request in plane.taken] == list(range(1, len(plane.taken) + 1))
    await plane.until(lambda: plane.heartbeats()[-1].state == agent_pb2.AGENT_STATE_IDLE)
    assert await sidecar.stop() == 0
    assert [beat.leaving for beat in plane.heartbeats()][-1]
    assert not any((sidecar.settings.home / "workspace/agent-1").iterdir())


async def test_a_patch_is_stored_before_the_result_that_names_it(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path
):
    commit = make_repository(tmp_path / "repository")
    source = task_pb2.WorkspaceSource(git=task_pb2.GitWorkspace(repository=str(tmp_path / "repository")))
    plane.assign("task_1", shell("echo two >> a.txt; echo new > b.txt; git status --short", workspace=source))
    result = await plane.result()
    assert not result.HasField("failure"), sidecar.log()
    assert result.base_commit == commit
    assert (result.patch.files, result.patch.added_lines, result.patch.removed_lines) == (2, 2, 0)
    assert result.artefacts[0].name == "changes.patch"
    patch = plane.artefacts[result.patch_artefact_id]
    apply(tmp_path / "repository", patch)
    assert (tmp_path / "repository/b.txt").read_text() == "new\n"
    # A second task with changes of its own: the first one's base is not in its way.
    plane.assign("task_2", shell("rm a.txt", workspace=source))
    assert (await plane.result(2)).patch.files == 1


async def test_what_a_task_changes_outside_of_its_write_set_is_a_warning(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path
):
    make_repository(tmp_path / "repository")
    source = task_pb2.WorkspaceSource(git=task_pb2.GitWorkspace(repository=str(tmp_path / "repository")))
    change = "mkdir -p src; echo 1 > src/a; rm a.txt; echo 1 > new"
    for number, writes in enumerate((["src/"], [".", "docs/"], []), start=1):
        plane.assign(f"task_{number}", shell(change, workspace=source, writes=writes))
        result = await plane.result(number)
        assert not result.HasField("failure"), sidecar.log()
        strays = ["it changed 2 files outside of its write set: 'a.txt', 'new'"] if number == 1 else []
        assert list(result.warnings) == strays
        assert result.patch.files == 3


async def test_a_result_whose_patch_is_refused_for_good_arrives_without_it(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path
):
    make_repository(tmp_path / "repository")
    plane.refuse_artefacts = grpc.StatusCode.INVALID_ARGUMENT
    plane.assign("task_1", shell("rm a.txt", workspace={"git": {"repository": str(tmp_path / "repository")}}))
    result = await plane.result()
    assert not result.HasField("failure"), sidecar.log()
    assert result.patch_artefact_id == ""
    assert "could not be stored" in result.warnings[0]


async def test_folders_nested_deeper_than_recursion_lasts_do_not_end_the_sidecar(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    nest = "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\n"
    plane.assign("task_1", task_pb2.TaskSpec(driver="command", command=[sys.executable, "-c", nest]))
    result = await plane.result()
    assert not result.HasField("failure"), sidecar.log()
    assert list(result.warnings) == []
    assert not any((sidecar.settings.home / "workspace/agent-1").iterdir())


async def test_output_arrives_in_pieces_whose_offsets_leave_no_gap(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", shell("head -c 500000 /dev/zero | tr '\\0' x; echo end >&2"))
    result = await plane.result()
    assert not result.HasField("failure"), sidecar.log()
    offset = 0
    for output in plane.output():
        assert output.offset == offset
        assert 0 < len(output.data) <= 64 << 10
        offset += len(output.data)
    assert offset == 500_004
    assert len(result.summary.encode()) <= 64 << 10


@pytest.mark.parametrize(
    ("spec", "kind", "retryable", "says"),
    [
        (shell("exit 3"), "EXIT_CODE", True, "exit code 3"),
        (shell("no-such-program-here"), "PROGRAM_MISSING", False, "exit code 127"),
        (shell("kill -9 $$"), "SIGNAL", True, "SIGKILL"),
        (task_pb2.TaskSpec(driver="command"), "INVALID_TASK", False, "command"),
        (task_pb2.TaskSpec(driver="nonsense"), "INVALID_TASK", False, "kind of agent"),
        (task_pb2.TaskSpec(driver="grpc_agent", command=["true"]), "INVALID_TASK", False, "does not run"),
        (task_pb2.TaskSpec(driver="claude_code", prompt="x"), "PROGRAM_MISSING", False, ""),
        (shell("true", workspace={"git": {"repository": "/nonexistent/repo"}}), "WORKSPACE", False, "/nonexistent/repo"),
        (shell("true", workspace={"folder": {"path": "/nonexistent/folder"}}), "WORKSPACE", False, "not a folder"),
        (
            shell("true", isolation={"level": agent_pb2.ISOLATION_LEVEL_MODERATE}),
            "ISOLATION_REFUSED",
            False,
            "bubblewrap: this is a fake; use the real driver",
        ),
    ],
)
async def test_every_way_to_fail_ends_in_one_result_that_names_it(
    plane: FakeControlPlane, start_sidecar, spec: task_pb2.TaskSpec, kind: str, retryable: bool, says: str
):
    sidecar = await start_sidecar({"FAKE_REFUSED": "moderate"})
    plane.assign("task_1", spec)
    result = await plane.result()
    assert failure_of(result) == kind, sidecar.log()
    assert result.failure.retryable is retryable
    assert says in result.failure.message
    # The slot goes on: the next task runs, and there is exactly one result for the first.
    plane.assign("task_2", shell("true"))
    assert not (await plane.result(2)).HasField("failure")
    assert [report.lease.task_id for report in plane.results()] == ["task_1", "task_2"]


async def test_a_missing_key_is_named_with_what_sets_it(plane: FakeControlPlane, start_sidecar, tmp_path: Path):
    # An ELF program stands in for Claude Code, so that only the key is missing.
    await start_sidecar(claude_binary="/bin/true")
    plane.assign("task_1", task_pb2.TaskSpec(driver="claude_code", prompt="x"))
    result = await plane.result()
    assert failure_of(result) == "PROGRAM_MISSING"
    assert "ANTHROPIC_API_KEY" in result.failure.message


async def test_a_cancelled_task_gets_term_then_kill_and_is_reported_with_the_given_kind(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    lease = plane.assign("task_1", shell("trap 'echo got-term' TERM; echo up; while true; do sleep 0.05; done"))
    await plane.until(lambda: any(b"up" in output.data for output in plane.output()))
    plane.say(
        pb.ConnectResponse(
            cancellation=pb.TaskCancellation(
                lease=lease, grace={"nanos": 300_000_000}, reason="changed my mind", kind=task_pb2.FAILURE_KIND_CANCELLED
            )
        )
    )
    result = await plane.result()
    assert failure_of(result) == "CANCELLED"
    assert result.failure.message == "changed my mind"
    assert b"got-term" in b"".join(output.data for output in plane.output())


async def test_a_cancellation_with_a_stale_lease_is_ignored(plane: FakeControlPlane, sidecar: SidecarProcess):
    lease = plane.assign("task_1", shell("sleep 0.3; echo done"))
    lease.epoch = 8
    plane.say(pb.ConnectResponse(cancellation=pb.TaskCancellation(lease=lease, reason="x")))
    assert not (await plane.result()).HasField("failure")


async def test_a_task_that_takes_too_long_is_ended_and_says_so(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", shell("echo up; sleep 60", timeout={"nanos": 700_000_000}))
    result = await plane.result()
    assert failure_of(result) == "TIMEOUT"
    assert "--timeout" in result.failure.message


async def test_a_task_whose_time_is_over_before_it_runs_timed_out(plane: FakeControlPlane, start_sidecar, tmp_path: Path):
    await start_sidecar({"PATH": f"{slow_git(tmp_path)}:{os.environ['PATH']}"})
    workspace = {"git": {"repository": str(tmp_path)}}
    plane.assign("task_1", shell("true", workspace=workspace, timeout={"nanos": 300_000_000}))
    assert failure_of(await plane.result()) == "TIMEOUT"


def slow_git(folder: Path) -> Path:
    """Return a folder with a git that never answers, which stands in for a slow disk or network."""
    slow = folder / "bin"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (slow / "git").chmod(0o755)
    return slow


async def test_an_agent_that_does_not_start_in_time_is_retryable(plane: FakeControlPlane, start_sidecar, tmp_path: Path):
    await start_sidecar({"PATH": f"{slow_git(tmp_path)}:{os.environ['PATH']}"}, startup_timeout=0.5)
    plane.assign("task_1", shell("true", workspace={"git": {"repository": str(tmp_path)}}))
    result = await plane.result()
    assert failure_of(result) == "STARTUP_TIMEOUT"
    assert result.failure.retryable
    assert "startup_timeout" in result.failure.message


async def test_revoked_work_ends_and_nothing_is_reported(plane: FakeControlPlane, sidecar: SidecarProcess):
    lease = plane.assign("task_1", shell("sleep 60"))
    await plane.until(lambda: started(plane))
    plane.say(pb.ConnectResponse(leases_revoked=pb.LeasesRevoked(leases=[lease])))
    await plane.until(lambda: plane.heartbeats()[-1].state == agent_pb2.AGENT_STATE_IDLE)
    plane.assign("task_2", shell("true"))
    await plane.result()
    assert [report.lease.task_id for report in plane.results()] == ["task_2"]


async def test_a_second_task_at_once_is_handed_back(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", shell("sleep 0.5"))
    plane.assign("task_1", shell("sleep 0.5"))  # a repeat changes nothing
    plane.assign("task_2", shell("true"))
    first = await plane.result(1)
    assert failure_of(first) == "AGENT_LOST"
    assert not (await plane.result(2)).HasField("failure")
    assert [report.lease.task_id for report in plane.results()] == ["task_2", "task_1"]


async def test_a_sidecar_that_is_stopped_ends_its_agent_and_reports_the_task_as_lost(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    plane.assign("task_1", shell("echo $$; sleep 60"))
    await plane.until(plane.output)
    pid = int(plane.output()[0].data)
    assert await sidecar.stop() == 0, sidecar.log()
    result = await plane.result()
    assert failure_of(result) == "AGENT_LOST"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_result_arrives_once_when_the_control_plane_was_killed_while_the_task_ran(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path
):
    make_repository(tmp_path / "repository")
    source = task_pb2.WorkspaceSource(git=task_pb2.GitWorkspace(repository=str(tmp_path / "repository")))
    marker = tmp_path / "go-on"
    plane.assign(
        "task_1", shell(f"echo before; while [ ! -e {marker} ]; do sleep 0.02; done; echo after; echo x > n", workspace=source)
    )
    await plane.until(plane.output)
    await plane.kill()
    marker.touch()
    journal = sidecar.settings.home / "sidecars/agent-1/attachments"
    await eventually(lambda: any(journal.glob("sha256_*")))
    await plane.start()
    result = await plane.result()
    assert [(lease.task_id, lease.attempt, lease.epoch) for lease in plane.hellos[-1].active_leases] == [("task_1", 1, 7)]
    assert not result.HasField("failure"), sidecar.log()
    assert result.patch_artefact_id in plane.artefacts
    text = b"".join(output.data for output in plane.output("stdout"))
    assert text.count(b"after") == 1
    assert len(plane.results()) == 1
    offsets = {output.offset: output.data for output in plane.output()}
    assert b"".join(offsets[key] for key in sorted(offsets)) == b"before\nafter\n"
    assert plane.hellos[0].incarnation == plane.hellos[-1].incarnation


async def test_a_result_that_was_not_committed_survives_a_kill_of_the_sidecar(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.commits = False
    plane.assign("task_1", shell("echo kept"))
    await plane.until(lambda: any(frame.report.HasField("completed") for frame in plane.frames))
    await sidecar.stop(signal.SIGKILL)
    plane.commits = True
    await sidecar.start()
    result = await plane.result()
    assert result.summary == "kept"
    assert len(plane.results()) == 1
    assert plane.hellos[0].incarnation != plane.hellos[-1].incarnation
    await plane.until(lambda: plane.heartbeats()[-1].state == agent_pb2.AGENT_STATE_IDLE)


async def test_a_failed_tasks_workspace_is_kept_on_request(plane: FakeControlPlane, start_sidecar, tmp_path: Path):
    sidecar = await start_sidecar(keep_workspaces=True)
    plane.assign("task_1", shell("echo evidence > f; exit 1"))
    result = await plane.result()
    kept = sidecar.settings.home / "workspace/.kept/agent-1"
    assert result.workspace == str(kept / "task_1")
    assert (kept / "task_1/f").read_text() == "evidence\n"
    assert kept.stat().st_mode & 0o777 == 0o700
    plane.assign("task_2", shell("echo fine > f"))
    assert not (await plane.result(2)).workspace
    assert [each.name for each in kept.iterdir()] == ["task_1"]
    assert not any((sidecar.settings.home / "workspace/agent-1").iterdir())


async def test_a_task_may_ask_for_its_workspace_which_is_removed_when_its_time_is_over(
    plane: FakeControlPlane, start_sidecar, tmp_path: Path
):
    sidecar = await start_sidecar(keep_workspaces_for=1000.0)
    plane.assign("task_1", shell("echo done > f", keep_workspace=True))
    kept = Path((await plane.result()).workspace)
    assert (kept / "f").read_text() == "done\n"
    plane.assign("task_2", shell("true"))
    assert not (await plane.result(2)).workspace, sidecar.log()
    assert kept.exists()
    os.utime(kept, (1, 1))
    plane.assign("task_3", shell("true"))
    await plane.result(3)
    assert not kept.exists()


@pytest.mark.parametrize("kind", ["folder", "git"])
async def test_every_attempt_begins_with_the_source_as_it_is(
    plane: FakeControlPlane, sidecar: SidecarProcess, tmp_path: Path, kind: str
):
    place = tmp_path / "source"
    make_repository(place)
    source = {"folder": {"path": str(place)}} if kind == "folder" else {"git": {"repository": str(place)}}
    spec = shell("ls; cat a.txt; rm a.txt; echo broken > left; git commit -qam broken; exit 1", workspace=source)
    before = sorted(str(each.relative_to(place)) for each in place.rglob("*"))
    for attempt in (1, 2):
        plane.assign("task_1", spec, attempt=attempt)
        assert failure_of(await plane.result(attempt)) == "EXIT_CODE"
    assert b"".join(output.data for output in plane.output("stdout")) == b"a.txt\none\n" * 2, sidecar.log()
    assert sorted(str(each.relative_to(place)) for each in place.rglob("*")) == before


async def test_without_workspace_mount_every_task_starts_empty(plane: FakeControlPlane, start_sidecar, tmp_path: Path):
    make_repository(tmp_path / "repository")
    await start_sidecar(workspace_mount=False)
    plane.assign("task_1", shell("ls -A | wc -l", workspace={"git": {"repository": str(tmp_path / "repository")}}))
    result = await plane.result()
    assert result.summary == "0"
    assert result.base_commit == ""


async def test_limits_of_the_task_go_over_those_of_the_slot(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", shell("echo $FAKE_LIMIT", isolation={"limits": {"memory_bytes": 123456789}}))
    assert (await plane.result()).summary == "123456789"


async def test_a_control_plane_that_moves_is_followed(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", shell("sleep 0.4; echo done"))
    await plane.until(lambda: started(plane))
    plane.say(pb.ConnectResponse(move=pb.Move()))
    await plane.until(lambda: len(plane.hellos) == 2)
    assert (await plane.result()).summary == "done"
    assert plane.hellos[-1].active_leases[0].task_id == "task_1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"agent_isolation": False}, "agent_isolation"), ({"agent_id": "No Name"}, "agent is named")],
)
async def test_settings_that_cannot_be_used_end_it_with_one_clear_line(tmp_path: Path, changes: dict[str, object], says: str):
    sidecar = SidecarProcess(settings(tmp_path, **changes), module="agent_sidecar")
    await sidecar.start()
    assert sidecar.process is not None
    async with asyncio.timeout(20):
        assert await sidecar.process.wait() == 78
    assert says in sidecar.log()
    assert len([line for line in sidecar.log().splitlines() if not line.startswith("{")]) == 1

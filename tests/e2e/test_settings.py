"""Each key of the description's two settings blocks changes what a real set does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.v1.task_pb2 import GitWorkspace, TaskSpec, WorkspaceSource
from tests.e2e.conftest import ROOT, Installation, cgroups, eventually, need_strict

pytestmark = pytest.mark.timeout(120)

TEMPORARIES = Path("/tmp/claude-conductor")
STANDALONE = """
container_config:
  memory_limit: "1g"
  cpu_limit: "0.5"
  enable_networking: false  # ネットワーク隔離
  workspace_mount: true

storage:
  workspace_path: "~/.claude-conductor/workspace"
  temp_path: "/tmp/claude-conductor"
  agent_isolation: true  # エージェント間の隔離を有効化
"""
PRODUCTION = """
agent:
  container_memory: "2g"
  container_cpu: "1.0"
  workspace_isolation: strict  # strict/moderate/minimal
  health_check_interval: 30
  startup_timeout: 60
"""
SEEN = "ls; head -1 /proc/meminfo; tail -n +3 /proc/net/dev | wc -l; sleep 4"
AGENT = """
import json, os, sys, time
from pathlib import Path
import grpc
from claude_conductor.v1 import local_service_pb2 as pb, local_service_pb2_grpc

here = Path.cwd()
with grpc.insecure_channel("unix:" + os.environ["CONDUCTOR_SOCKET"]) as channel:
    stub = local_service_pb2_grpc.LocalServiceStub(channel)
    stub.GetSelf(pb.GetSelfRequest(), timeout=10)
    while True:
        if (here / "quiet").exists():  # no call at all
            time.sleep(0.05)
            continue
        if (here / "deaf").exists():  # alive, but takes no task
            (here / "heard").touch()
            stub.GetSelf(pb.GetSelfRequest(), timeout=10)
            time.sleep(0.05)
            continue
        try:
            task = stub.NextTask(pb.NextTaskRequest(wait={"nanos": 300_000_000}), timeout=10)
        except grpc.RpcError:
            continue
        stub.CompleteTask(pb.CompleteTaskRequest(task_id=task.task_id, summary="done"), timeout=10)
"""


def shell(line: str, **more: object) -> TaskSpec:
    return TaskSpec(driver="command", command=["/bin/sh", "-c", line], **more)  # type: ignore[arg-type]


def in_repository(line: str, repository: Path) -> TaskSpec:
    return shell(line, workspace=WorkspaceSource(git=GitWorkspace(repository=str(repository))))


@pytest.fixture
def temporaries() -> Iterator[Path]:
    """The folder the description names; removed again if it was not there."""
    ours = not TEMPORARIES.exists()
    if not ours and TEMPORARIES.stat().st_uid != os.geteuid():
        pytest.skip(f"{TEMPORARIES} belongs to another user of this machine")
    yield TEMPORARIES
    if ours and TEMPORARIES.exists():
        for folder in TEMPORARIES.iterdir():
            folder.rmdir()  # empty: a task leaves nothing
        TEMPORARIES.rmdir()


def quota(groups: set[Path]) -> set[float]:
    """Return the processors these cgroups may use, as the kernel holds it."""
    found = set()
    for group in groups:
        if (group / "cpu.max").exists():
            most, period = (group / "cpu.max").read_text().split()
        elif (group / "cpu.cfs_quota_us").exists():
            most, period = (group / "cpu.cfs_quota_us").read_text(), (group / "cpu.cfs_period_us").read_text()
        else:
            continue
        if most.strip() not in ("max", "-1"):
            found.add(int(most) / int(period))
    return found


def memory(groups: set[Path]) -> set[int]:
    """Return the bytes these cgroups may use, as the kernel holds it."""
    files = [group / name for group in groups for name in ("memory.max", "memory.limit_in_bytes")]
    return {int(text) for file in files if file.exists() and (text := file.read_text().strip()) != "max"}


@pytest.mark.parametrize(("block", "gigabytes", "cpus"), [(STANDALONE, 1, 0.5), (PRODUCTION, 2, 1.0)])
def test_the_blocks_of_the_description_act_as_written(
    temporaries: Path, installation: Installation, repository: Path, block: str, gigabytes: int, cpus: float
):
    need_strict()
    before = cgroups()
    file = installation.home.parent / "settings.yaml"
    file.write_text(block)
    installation.run("start", "--config", str(file), "--agents", "1")
    agent_files = installation.home / "workspace/agent-1"
    private = temporaries / "agent-1" if block is STANDALONE else installation.home / "sidecars/agent-1/git"

    with installation.client() as client:
        task = client.tasks.submit(in_repository(SEEN, repository))
        eventually(lambda: client.tasks.get(task.task_id).state == task_pb2.TASK_STATE_RUNNING, what="the task runs")
        assert gigabytes << 30 in memory(cgroups() - before)
        assert cpus in quota(cgroups() - before)
        assert (agent_files / task.task_id / "hello.txt").exists()
        assert (private / task.task_id).is_dir()
        assert private.parent.stat().st_mode & 0o777 == 0o700
        inspected = installation.run("agents", "inspect", "agent-1").stdout
        task = client.tasks.wait(task.task_id, timeout=30)
        output = b"".join(chunk.data for chunk in client.tasks.output(task.task_id)).decode()

    assert "strict, driver process" in inspected
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task.reason
    assert task.result.isolation.effective_level == agent_pb2.ISOLATION_LEVEL_STRICT
    assert output.split() == ["hello.txt", "MemTotal:", str(gigabytes << 20), "kB", "1"]
    assert not list(agent_files.iterdir())
    assert not list(private.iterdir())


def test_minimal_shares_what_is_to_be_shared_and_an_unmounted_workspace_is_empty(installation: Installation, repository: Path):
    place = installation.home.parent
    settings = {
        "num_agents": 2,
        "lease_seconds": 3,
        "container_config": {"enable_networking": True, "workspace_mount": False, "image": "python:3.11"},
        "storage": {
            "workspace_path": str(place / "work"),
            "temp_path": str(place / "temp"),
            "agent_isolation": False,
            "logs_path": "/var/log/conductor",
        },
        "agent": {"workspace_isolation": "minimal", "health_check_interval": 1},
        "orchestrator": {"max_workers": 4},
        "task_queue": {"max_size": 10},
    }
    started = installation.run("start", "--config", str(installation.configure(**settings)))

    for key, successor in (
        ("container_config.image", "toolchains"),
        ("storage.logs_path", "CONDUCTOR_HOME"),
        ("orchestrator.max_workers", "num_agents"),
        ("task_queue.max_size", "store"),
    ):
        (line,) = [line for line in started.stderr.splitlines() if f"`{key}`" in line]
        assert successor in line
        assert "conductor.yaml:" in line
    with installation.client() as client:
        task = client.tasks.submit(in_repository("pwd; ls -A; readlink /proc/self/ns/net; sleep 60", repository))
        eventually(lambda: client.tasks.get(task.task_id).state == task_pb2.TASK_STATE_RUNNING, what="the task runs")
        assert (place / "temp").stat().st_mode & 0o777 == 0o700
        assert (place / "work/shared" / task.task_id).is_dir()
        stalled = agent_pb2.AGENT_STATE_STALLED
        eventually(lambda: stalled in {agent.state for agent in client.agents.list()}, what="the silent task is stalled")
        shown = installation.run("agents", "list").stdout
        assert "stalled" in shown
        assert "no output, call or processor time since" in shown
        client.tasks.cancel(task.task_id, reason="seen", grace=0.5)
        task = client.tasks.wait(task.task_id, timeout=30)
        output = b"".join(chunk.data for chunk in client.tasks.output(task.task_id)).decode()

    assert task.state == task_pb2.TASK_STATE_CANCELLED, task.reason  # only because we asked: a stalled task is not ended
    assert task.result.isolation.effective_level == agent_pb2.ISOLATION_LEVEL_MINIMAL
    assert output.split() == [str(place / "work/shared" / task.task_id), os.readlink("/proc/self/ns/net")]
    assert any("workspace_mount" in warning for warning in task.result.warnings)


def test_an_agent_that_takes_no_task_or_falls_silent_is_found_out(installation: Installation, repository: Path):
    place = installation.home.parent
    (place / "tools").mkdir()
    (place / "tools/agent.py").write_text(AGENT)
    installation.start(
        num_agents=1,
        lease_seconds=3,
        agent={"workspace_isolation": "moderate", "health_check_interval": 1, "startup_timeout": 2},
        tasks={"max_attempts": 2, "retry_delay": 0},
        agents=[
            {
                "id": "resident",
                "driver": "grpc_agent",
                "command": [sys.executable, str(place / "tools/agent.py")],
                "environment": {"PYTHONPATH": str(ROOT)},
                "toolchains": [
                    str(place / "tools"),
                    str(ROOT),
                    sys.prefix,
                    *(() if sys.base_prefix == "/usr" else (sys.base_prefix,)),
                ],
            }
        ],
    )
    resident = installation.home / "workspace/resident/home"

    with installation.client() as client:

        def state() -> int:
            return client.agents.get("resident").state

        eventually(lambda: state() == agent_pb2.AGENT_STATE_IDLE, what="the agent is idle")
        (resident / "deaf").touch()
        eventually((resident / "heard").exists, what="the agent has stopped to take tasks")
        task = client.tasks.wait(client.tasks.submit(TaskSpec(driver="grpc_agent", prompt="x")).task_id, timeout=30)
        assert task.result.failure.kind == task_pb2.FAILURE_KIND_STARTUP_TIMEOUT, task
        assert "agent.startup_timeout" in task.result.failure.message
        assert len(task.attempts) == 2  # it was tried again

        (resident / "quiet").touch()
        eventually(lambda: state() == agent_pb2.AGENT_STATE_STALLED, what="the silent agent is stalled")
        shown = installation.run("agents", "list").stdout
        assert "no call since" in shown
        (resident / "deaf").unlink()
        (resident / "quiet").unlink()
        eventually(lambda: state() == agent_pb2.AGENT_STATE_IDLE, what="the agent is idle again")
        task = client.tasks.wait(client.tasks.submit(TaskSpec(driver="grpc_agent", prompt="x")).task_id, timeout=30)
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task.reason

        plain = client.tasks.wait(client.tasks.submit(in_repository("ls", repository)).task_id, timeout=30)
        assert plain.state == task_pb2.TASK_STATE_SUCCEEDED, plain.reason
        assert plain.result.isolation.effective_level == agent_pb2.ISOLATION_LEVEL_MODERATE
    done = installation.run("run", "--agent", "command", "--level", "strict", "--cmd", "true", "--wait", "x")
    assert "succeeded" in done.stdout


def test_caps_of_the_file_hold_tasks_back_and_why_says_so(installation: Installation):
    installation.start(num_agents=2, tasks={"concurrency": {"types": {"refactor": 1}}}, agent={"workspace_isolation": "minimal"})

    with installation.client() as client:
        first, second = (client.tasks.submit(shell(line, type="refactor")) for line in ("sleep 66.5", "true"))
        other = client.tasks.submit(shell("true", depends_on=[second.task_id]))
        told = installation.run("why", second.task_id).stdout
        assert "is queued: waits for a place: type refactor has 1 of 1 (`tasks.concurrency.types`)" in told
        assert f"it waits for {second.task_id}, which is queued" in installation.run("why", other.task_id).stdout
        client.tasks.cancel(first.task_id, reason="enough")
        ended = [client.tasks.wait(task.task_id, timeout=30) for task in (second, other)]

    assert {task.state for task in ended} == {task_pb2.TASK_STATE_SUCCEEDED}
    assert "is cancelled: enough" in installation.run("why", first.task_id).stdout


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"container_config": {"enable_networking": True}}, ["enable_networking", "conductor.yaml:2", "strict"]),
        (
            {"container_config": {"allowed_hosts": ["*"]}},
            ["allowed_hosts", "conductor.yaml:2", "nothing an agent could be allowed to reach"],
        ),
        ({"storage": {"agent_isolation": False}}, ["agent_isolation", "conductor.yaml:2", "minimal"]),
        ({"agent": {"workspace_isolation": "paranoid"}}, ["workspace_isolation", "conductor.yaml:2", "strict"]),
    ],
)
def test_combinations_that_cannot_act_are_refused_before_anything_starts(
    installation: Installation, settings: dict[str, object], says: list[str]
):
    refused = installation.run("start", "--config", str(installation.configure(**settings)), check=False)

    assert refused.returncode == 2, refused.stderr
    for words in says:
        assert words in refused.stderr
    assert installation.processes("") == []


def test_a_temporary_folder_that_is_a_link_is_refused(installation: Installation):
    place = installation.home.parent
    (place / "elsewhere").mkdir()
    (place / "link").symlink_to(place / "elsewhere")
    file = installation.configure(num_agents=1, storage={"temp_path": str(place / "link")})

    refused = installation.run("start", "--config", str(file), check=False)

    assert refused.returncode != 0
    assert "storage.temp_path" in refused.stderr, refused.stderr + installation.logs()
    assert "link" in refused.stderr
    assert not list((place / "elsewhere").iterdir())

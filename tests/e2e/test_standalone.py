"""A standalone set from start to stop, as its user meets it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.v1.task_pb2 import GitWorkspace, TaskSpec, WorkspaceSource
from tests.e2e.conftest import Installation, eventually, git

pytestmark = pytest.mark.timeout(120)


def shell(line: str, **more: object) -> TaskSpec:
    return TaskSpec(driver="command", command=["/bin/sh", "-c", line], **more)  # type: ignore[arg-type]


def test_start_returns_ready_and_stop_leaves_nothing(installation: Installation):
    installation.start()

    status = json.loads(installation.run("status", "-o", "json").stdout)
    assert status["store"] == "sqlite"
    with installation.client() as client:
        agents = client.agents.list()
    assert [agent.agent_id for agent in agents] == ["agent-1", "agent-2"]
    assert {agent.state for agent in agents} == {agent_pb2.AGENT_STATE_IDLE}
    installation.run("stop")
    assert installation.run("status", check=False).returncode == 5


def test_a_second_start_says_it_runs_already_and_a_second_stop_that_nothing_does(installation: Installation):
    installation.start()

    second = installation.run("start", check=False)
    assert second.returncode == 1
    assert "runs already" in second.stderr
    installation.run("stop")
    stopped = installation.run("stop", check=False)
    assert stopped.returncode == 5
    assert "conductor start" in stopped.stderr


def test_a_change_in_a_clone_comes_back_as_a_patch_and_the_repository_is_untouched(installation: Installation, repository: Path):
    installation.start()
    before = git(repository, "rev-parse", "HEAD") + git(repository, "status", "--porcelain")

    with installation.client() as client:
        workspace = WorkspaceSource(git=GitWorkspace(repository=str(repository)))
        task = client.tasks.submit(shell("echo more >> hello.txt; echo new > new.txt", workspace=workspace))
        task = client.tasks.wait(task.task_id, timeout=30)
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task.reason
        patch = client.artefacts.read(task.result.patch_artefact_id)

    assert (task.result.patch.files, task.result.patch.added_lines, task.result.patch.removed_lines) == (2, 2, 0)
    (installation.home.parent / "p.patch").write_bytes(patch)
    git(repository, "apply", "--check", str(installation.home.parent / "p.patch"))
    assert git(repository, "rev-parse", "HEAD") + git(repository, "status", "--porcelain") == before


def test_work_on_uncommitted_changes_is_a_patch_of_the_agents_part_alone(installation: Installation, repository: Path):
    installation.start()
    (repository / "hello.txt").write_text("hello\nmine, not committed\n")
    (repository / "mine.txt").write_text("new\n")
    (repository / "run.sh").write_text("#!/bin/sh\necho agent >> hello.txt\n")
    (repository / "run.sh").chmod(0o755)
    before = git(repository, "for-each-ref") + git(repository, "status", "--porcelain")

    task = installation.run("run", "--cmd", "cat mine.txt && ./run.sh", "--repo", str(repository), "--dirty", "-o", "name").stdout

    assert installation.run("tasks", "diff", task.strip(), "--stat").stdout.splitlines() == ["+1 -0  hello.txt", "1 file, +1 -0"]
    installation.run("tasks", "apply", task.strip(), "--branch", "agents")
    assert git(repository, "show", "agents:hello.txt").splitlines() == ["hello", "mine, not committed", "agent"]
    git(repository, "branch", "-qD", "agents")
    assert git(repository, "for-each-ref") + git(repository, "status", "--porcelain") == before
    patch = installation.run("tasks", "patch", task.strip()).stdout
    (installation.home.parent / "p.patch").write_text(patch)
    git(repository, "apply", str(installation.home.parent / "p.patch"))
    assert (repository / "hello.txt").read_text().splitlines() == ["hello", "mine, not committed", "agent"]


def test_tasks_of_a_file_run_in_their_order_and_once(installation: Installation, repository: Path):
    installation.start()
    record = {"defaults": {"repo": str(repository), "attempts": 1}, "tasks": []}
    record["tasks"] = [
        {"name": "third", "cmd": "true", "after": ["first", "second"]},
        {"name": "first", "cmd": "sleep 0.3"},
        {"name": "second", "cmd": "true", "after": "first"},
        {"name": "wrong", "cmd": "exit 3"},
        {"name": "never", "cmd": "true", "after": "wrong"},
    ]
    (installation.home.parent / "tasks.yaml").write_text(json.dumps(record))

    done = installation.run("apply", "-f", "tasks.yaml", "--wait", "-o", "json", check=False)

    assert done.returncode == 1
    tasks = {task["spec"]["command"][-1] + str(len(task["spec"].get("depends_on", []))): task for task in json.loads(done.stdout)}
    first, second, third = tasks["sleep 0.30"], tasks["true1"], tasks["true2"]
    assert {task["state"] for task in (first, third)} == {"TASK_STATE_SUCCEEDED"}
    assert first["end_time"] <= third["start_time"]
    assert tasks["exit 30"]["state"] == "TASK_STATE_DEAD"
    again = installation.run("apply", "-f", "tasks.yaml", "--wait", "-o", "name", check=False).stdout.split()
    assert again == [task["task_id"] for task in json.loads(done.stdout)]
    assert second["task_id"] in again


def sleepers_on_host() -> list[Path]:
    return [p for p in Path("/proc").iterdir() if p.name.isdigit() and b"sleep\x003\x00" in read(p / "cmdline")]


def test_an_agent_has_no_network_no_host_home_and_no_root(installation: Installation):
    installation.start()
    script = "id -u; ls -d /root/* /home/*/* 2>&1; tail -n +3 /proc/net/dev | wc -l; cat /proc/self/status; sleep 3"

    with installation.client() as client:
        task = client.tasks.submit(shell(script))
        eventually(sleepers_on_host, what="the agent's last command is seen on the host")
        sleepers = sleepers_on_host()
        uids = {line.split()[1] for p in sleepers for line in read(p / "status").decode().splitlines() if line.startswith("Uid:")}
        task = client.tasks.wait(task.task_id, timeout=30)
        output = b"".join(chunk.data for chunk in client.tasks.output(task.task_id)).decode()

    assert sleepers, "the agent's process was not seen on the host"
    assert "0" not in uids
    if os.geteuid() == 0:
        assert all(61200 <= int(uid) <= 61999 for uid in uids)
    lines = output.splitlines()
    assert lines[0] != "0"
    assert "1" in lines, output  # only the loopback interface
    assert "NoNewPrivs:\t1" in output
    assert "Seccomp:\t2" in output
    assert "CapEff:\t0000000000000000" in output
    assert task.result.isolation.effective_level == agent_pb2.ISOLATION_LEVEL_STRICT
    assert not task.result.isolation.degradations


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # the process ended while we looked


def test_an_agent_over_its_memory_limit_ends_with_the_limit_and_the_flag_named(installation: Installation):
    installation.start(container_config={"memory_limit": "128m", "cpu_limit": "1.0"})

    with installation.client() as client:
        task = client.tasks.submit(TaskSpec(driver="scripted", prompt="allocate 400"))
        task = client.tasks.wait(task.task_id, timeout=30)

    assert task.state == task_pb2.TASK_STATE_FAILED
    assert task.result.failure.kind == task_pb2.FAILURE_KIND_OUT_OF_MEMORY
    assert "128" in task.result.failure.message
    assert "--memory" in task.result.failure.message


def test_agents_work_side_by_side(installation: Installation):
    installation.start(num_agents=3)

    with installation.client() as client:
        tasks = [client.tasks.submit(shell("sleep 1")) for _ in range(3)]
        ended = [client.tasks.wait(task.task_id, timeout=30) for task in tasks]

    assert {task.state for task in ended} == {task_pb2.TASK_STATE_SUCCEEDED}
    assert {task.agent_id for task in ended} == {"agent-1", "agent-2", "agent-3"}
    last_start = max(task.start_time.ToNanoseconds() for task in ended)
    assert last_start < min(task.end_time.ToNanoseconds() for task in ended)


def test_cancelling_ends_the_whole_process_tree(installation: Installation):
    installation.start()

    with installation.client() as client:
        task = client.tasks.submit(shell("trap '' TERM; (setsid sleep 4321 &) ; sleep 4321"))
        eventually(
            lambda: any(b"sleep\x004321\x00" in read(p / "cmdline") for p in Path("/proc").iterdir() if p.name.isdigit()),
            what="it runs",
        )
        client.tasks.cancel(task.task_id, reason="enough", grace=0.5)
        task = client.tasks.wait(task.task_id, timeout=20)

    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert "enough" in task.reason
    assert not any(b"sleep\x004321\x00" in read(p / "cmdline") for p in Path("/proc").iterdir() if p.name.isdigit())


def test_run_from_the_command_line_prints_result_patch_and_usage(installation: Installation, repository: Path):
    installation.start()

    done = installation.run(
        *("run", "fix the failing test", "--agent", "command", "--cmd", 'echo "asked: $1" >> hello.txt #{prompt}'),
        *("--repo", str(repository), "-n", "2", "--wait"),
    )

    assert "succeeded" in done.stdout
    assert "1 file" in done.stdout
    assert "cpu" in done.stdout.lower()


def test_conductor_test_says_that_the_set_works(installation: Installation):
    installation.start()

    done = installation.run("test")
    assert "strict" in done.stdout

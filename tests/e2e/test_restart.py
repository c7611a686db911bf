"""Anything may be killed at any moment: agents go on, results count once, lost work runs again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.v1.task_pb2 import TaskSpec
from tests.e2e.conftest import Installation, eventually
from tests.e2e.test_standalone import read, shell

pytestmark = pytest.mark.timeout(150)


def running_on_host(mark: str) -> bool:
    return any(mark.encode() in read(process / "cmdline") for process in Path("/proc").iterdir() if process.name.isdigit())


def test_agents_finish_and_results_arrive_once_when_the_control_plane_is_killed(installation: Installation):
    installation.start(num_agents=3)
    with installation.client() as client:
        tasks = [client.tasks.submit(shell(f"echo before; sleep 3; echo after-{number}")).task_id for number in range(3)]
        eventually(lambda: all(client.tasks.get(task).state == task_pb2.TASK_STATE_RUNNING for task in tasks), what="all run")

    [server] = installation.processes("controlplane")
    os.kill(server.pid, signal.SIGKILL)

    eventually(lambda: installation.run("status", check=False).returncode == 0, 20, "the control plane is back")
    with installation.client() as client:
        ended = [client.tasks.wait(task, timeout=40) for task in tasks]
        outputs = [b"".join(chunk.data for chunk in client.tasks.output(task)).decode() for task in tasks]
    assert [task.state for task in ended] == [task_pb2.TASK_STATE_SUCCEEDED] * 3, [task.reason for task in ended]
    assert [len(task.attempts) for task in ended] == [1, 1, 1]
    assert outputs == [f"before\nafter-{number}\n" for number in range(3)]


def test_a_question_to_a_human_is_answered_after_the_control_plane_was_killed(installation: Installation):
    installation.start(num_agents=1)
    with installation.client() as client:
        task = client.tasks.submit(shell("conductor-agent ask 'go on?' --timeout 60s")).task_id
        asks = task_pb2.TASK_STATE_WAITING_FOR_HUMAN
        eventually(lambda: client.tasks.get(task).state == asks, 20, "the question")
    [server] = installation.processes("controlplane")

    os.kill(server.pid, signal.SIGKILL)

    eventually(lambda: installation.run("tasks", "answer", task, "go on", check=False).returncode == 0, 20, "it is answered")
    assert installation.run("tasks", "answer", task, "stop", check=False).returncode == 1
    with installation.client() as client:
        ended = client.tasks.wait(task, timeout=40)
        output = b"".join(chunk.data for chunk in client.tasks.output(task)).decode()
    assert (ended.state, len(ended.attempts), output) == (task_pb2.TASK_STATE_SUCCEEDED, 1, "go on\n")


def test_the_task_of_a_killed_sidecar_runs_again_and_its_first_process_is_gone(installation: Installation):
    installation.start(num_agents=1)
    with installation.client() as client:
        task = client.tasks.submit(shell("[ -e /workspace/never ] || sleep 77.5"))
        eventually(
            lambda: client.tasks.get(task.task_id).state == task_pb2.TASK_STATE_RUNNING and running_on_host("77.5"),
            what="it runs",
        )
        [agent] = client.agents.list()

        os.kill(agent.sidecar_pid, signal.SIGKILL)

        eventually(lambda: len(client.tasks.get(task.task_id).attempts) == 2, 20, "it is handed out again")
        first, second = client.tasks.get(task.task_id).attempts
        assert first.failure.kind == task_pb2.FAILURE_KIND_AGENT_LOST
        assert not second.HasField("failure")
        client.tasks.cancel(task.task_id, reason="seen enough", grace=0.1)
        ended = client.tasks.wait(task.task_id, timeout=20)
    assert ended.state == task_pb2.TASK_STATE_CANCELLED
    eventually(lambda: not running_on_host("77.5"), what="no process of either attempt is left")


def test_a_task_that_kills_its_sidecar_again_and_again_is_dead_in_the_end(installation: Installation):
    installation.start(num_agents=1)
    with installation.client() as client:
        task = client.tasks.submit(shell("sleep 88.5"))
        for attempt in range(1, 6):
            eventually(
                lambda wanted=attempt: (
                    len(client.tasks.get(task.task_id).attempts) == wanted
                    and client.tasks.get(task.task_id).state == task_pb2.TASK_STATE_RUNNING
                ),
                25,
                f"attempt {attempt} runs",
            )
            [agent] = client.agents.list()
            os.kill(agent.sidecar_pid, signal.SIGKILL)
        ended = client.tasks.wait(task.task_id, timeout=20)
    assert ended.state == task_pb2.TASK_STATE_DEAD
    assert "lost its agent 5 times" in ended.reason


def test_queued_tasks_survive_a_stop_and_a_start(installation: Installation):
    installation.start(num_agents=1)
    with installation.client() as client:
        tasks = [client.tasks.submit(shell("sleep 0.3; echo done")).task_id for _ in range(4)]
    installation.run("stop")
    installation.start(num_agents=1)

    with installation.client() as client:
        ended = [client.tasks.wait(task, timeout=40) for task in tasks]
    assert {task.state for task in ended} == {task_pb2.TASK_STATE_SUCCEEDED}


def test_everything_ends_with_a_killed_supervisor_and_start_works_again(installation: Installation):
    installation.start(num_agents=1)
    with installation.client() as client:
        task = client.tasks.submit(shell("sleep 2.25; echo done")).task_id
        eventually(lambda: client.tasks.get(task).state == task_pb2.TASK_STATE_RUNNING, what="it runs")
    [supervisor] = installation.processes("claude_conductor.supervisor")

    os.kill(supervisor.pid, signal.SIGKILL)

    eventually(lambda: installation.processes("") == [], 15, "no process is left")
    installation.start(num_agents=1)
    with installation.client() as client:
        ended = client.tasks.wait(task, timeout=40)
        assert ended.state == task_pb2.TASK_STATE_SUCCEEDED
        assert {agent.state for agent in client.agents.list()} == {agent_pb2.AGENT_STATE_IDLE}


def test_the_same_request_is_the_same_task_across_a_restart(installation: Installation):
    installation.start(num_agents=1)
    spec = TaskSpec(driver="command", command=["true"])
    with installation.client() as client:
        first = client.tasks.submit(spec, request_id="once")
    [server] = installation.processes("controlplane")
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: installation.run("status", check=False).returncode == 0, 20, "the control plane is back")

    with installation.client() as client:
        second = client.tasks.submit(spec, request_id="once")
    assert first.task_id == second.task_id

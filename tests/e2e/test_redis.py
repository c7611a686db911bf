"""A whole set over a real Redis server: work runs, either of the two may be killed, and doctor says what is at risk."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from claude_conductor.v1 import task_pb2
from tests.e2e.conftest import Installation, eventually
from tests.e2e.test_standalone import shell
from tests.fakes.redis_server import RedisServer, needs_redis, running

pytestmark = [pytest.mark.timeout(200), needs_redis]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running() as started:
        yield started


def test_work_runs_and_both_may_be_killed(installation: Installation, redis: RedisServer) -> None:
    installation.start("--store", redis.url, num_agents=1)
    ran = installation.run("run", "say hello", "--agent", "command", "--cmd", "echo hello", "--wait", check=False)
    with installation.client() as client:
        long = client.tasks.submit(shell("echo begun; sleep 6; echo done")).task_id
        queued = [client.tasks.submit(shell("echo next")).task_id for _ in range(3)]
        eventually(lambda: client.tasks.get(long).state == task_pb2.TASK_STATE_RUNNING, 20, "it runs")
    assert ran.returncode == 0, ran.stderr

    redis.stop(signal.SIGKILL)
    refused = installation.run("tasks", "list", check=False)
    assert refused.returncode == 5, refused
    assert "reached" in refused.stderr or "broke" in refused.stderr
    redis.start()
    [server] = installation.processes("controlplane")
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: installation.run("tasks", "list", check=False).returncode == 0, 20, "the control plane is back")

    with installation.client() as client:
        ended = [client.tasks.wait(task, timeout=60) for task in (long, *queued)]
        output = b"".join(chunk.data for chunk in client.tasks.output(long))
    assert {task.state for task in ended} == {task_pb2.TASK_STATE_SUCCEEDED}, [task.reason for task in ended]
    assert [len(task.attempts) for task in ended] == [1] * 4
    assert output == b"begun\ndone\n"


def test_the_control_plane_waits_for_a_redis_that_is_away_and_doctor_says_what_is_at_risk(
    installation: Installation, redis: RedisServer
) -> None:
    assert redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru") == b"+OK\r\n"
    path = installation.configure(num_agents=1, store=redis.url)
    refused = installation.run("start", "--config", str(path), check=False)
    assert refused.returncode == 5
    assert "drops tasks and messages" in refused.stderr
    assert redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction") == b"+OK\r\n"
    installation.start(num_agents=1, store=redis.url)
    [server] = installation.processes("controlplane")
    redis.stop(signal.SIGKILL)
    os.kill(server.pid, signal.SIGKILL)
    redis.start()
    eventually(lambda: installation.run("status", check=False).returncode == 0, 30, "the control plane is back")

    installation.environment["CONDUCTOR_STORE"] = redis.url
    checks = {
        check["name"]: check for check in json.loads(installation.run("doctor", "-o", "json", check=False).stdout)["checks"]
    }
    assert "appendfsync always" in checks["store: persistence"]["found"]
    assert checks["store: replicas"]["found"].startswith("at risk: none")
    assert checks["store: eviction"]["good"]
    redis.stop()
    gone = installation.run("doctor", check=False)
    assert gone.returncode == 1
    assert "Redis cannot be reached" in gone.stdout
    redis.start()

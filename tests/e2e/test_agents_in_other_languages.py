"""The agents of examples/agents in strict isolation: only their own folders are added to what they see."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.v1.task_pb2 import TaskSpec
from tests.conformance.conftest import need
from tests.conformance.runner_process import BUILT, ROOT
from tests.e2e.conftest import Installation, eventually, need_strict

pytestmark = pytest.mark.timeout(900, func_only=True)


def test_a_node_agent_asks_a_go_agent_across_two_strict_sandboxes(installation: Installation):
    need_strict()
    need("node")
    need("go")
    node = Path(shutil.which("node") or "node").resolve()
    agents = [
        {
            "id": "node",
            "driver": "grpc_agent",
            "command": [str(node), str(BUILT / "node/agent.js")],
            "environment": {"CONDUCTOR_PROTOS": str(ROOT / "proto")},
            "toolchains": [str(node.parent), str(BUILT / "node"), str(ROOT / "proto")],
        },
        {"id": "go", "driver": "grpc_agent", "command": [str(BUILT / "go/bin/agent")], "toolchains": [str(BUILT / "go/bin")]},
    ]
    installation.start("--wait-timeout", "60", num_agents=0, agents=agents)
    with installation.client() as client:
        eventually(
            lambda: all(agent.state == agent_pb2.AGENT_STATE_IDLE for agent in client.agents.list()), 30, "both agents called"
        )
        serving = client.tasks.submit(TaskSpec(driver="grpc_agent", agent_id="go", prompt="answer 1"))
        asking = client.tasks.submit(TaskSpec(driver="grpc_agent", agent_id="node", prompt="ask go how are you"))
        asking, serving = (client.tasks.wait(task.task_id, timeout=40) for task in (asking, serving))
        assert asking.state == task_pb2.TASK_STATE_SUCCEEDED, asking.reason + installation.logs()
        assert asking.result.summary == "answer: go heard: how are you"
        assert serving.result.summary == "answered 1"
        for task in (asking, serving):
            assert task.result.isolation.effective_level == agent_pb2.ISOLATION_LEVEL_STRICT
            assert not task.result.isolation.degradations
        idle = {agent.agent_id: agent.use.memory_bytes >> 20 for agent in client.agents.list()}
    print(f"MiB in use: {idle}")  # noqa: T201 - a measurement

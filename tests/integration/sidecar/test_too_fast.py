"""An agent that sends faster than it may: told how long to wait, through its sidecar, and nothing is lost or out of order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_conductor.client.agent import AgentClient
from claude_conductor.errors import RateLimitedError
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import message_service_pb2
from tests.fakes.control_plane import ControlPlane, sidecar_token
from tests.fakes.sidecar_process import ROOT, SidecarProcess, settings
from tests.fakes.waiting import eventually

AGENT = (sys.executable, "-m", "tests.fakes.agent_program", "serve")


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path, limits={"messages_a_second": 50.0, "messages_at_once": 5})
    await plane.start()
    yield plane
    await plane.close()


@pytest.fixture
async def agent(slow: ControlPlane, tmp_path: Path) -> AsyncIterator[AgentClient]:
    chosen = settings(
        tmp_path,
        token=Secret(sidecar_token("agent-1")),
        agent_command=AGENT,
        agent_environment={"PYTHONPATH": str(ROOT)},
        drivers=("grpc_agent",),
    )
    running = SidecarProcess(chosen)
    await running.start()
    socket = tmp_path / "run/agents/agent-1/agent.sock"
    await eventually(socket.is_socket, 15)
    async with AgentClient.connect(str(socket)) as client:
        yield client
    await running.stop(signal.SIGKILL)


async def test_an_agent_that_waits_as_it_is_told_loses_nothing_and_keeps_the_order(slow: ControlPlane, agent: AgentClient):
    waits: list[float] = []
    for number in range(60):
        message_id = f"msg_{number:032x}"
        async with asyncio.timeout(10):
            while True:
                try:
                    await agent.send("operator", str(number).encode(), message_id=message_id)
                    break
                except RateLimitedError as error:
                    waits.append(error.retry_after or 0.0)
                    await asyncio.sleep(waits[-1])

    operator = slow.operator()
    request = message_service_pb2.FetchMessagesRequest(max_messages=1000)
    found = await operator.messages.FetchMessages(request, **operator.call)
    assert [int(message.envelope.data) for message in found.messages] == list(range(60))
    assert waits
    assert all(0.0 < wait <= 0.1 for wait in waits)

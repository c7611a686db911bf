"""A real sidecar process against a scripted control plane: one task from assignment to result."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_conductor.v1 import agent_pb2, task_pb2
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.sidecar_process import SidecarProcess, settings

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[FakeControlPlane]:
    fake = FakeControlPlane(tmp_path / "run/control.sock")
    await fake.start()
    yield fake
    await fake.kill()


@pytest.fixture
async def sidecar(plane: FakeControlPlane, tmp_path: Path) -> AsyncIterator[SidecarProcess]:
    running = SidecarProcess(settings(tmp_path))
    await running.start()
    await plane.connected()
    yield running
    if running.process is not None and running.process.returncode is None:
        await running.stop(signal.SIGKILL)


def shell(line: str, **more: object) -> task_pb2.TaskSpec:
    return task_pb2.TaskSpec(driver="command", command=["/bin/sh", "-c", line], **more)


async def test_a_task_runs_from_assignment_to_result(plane: FakeControlPlane, sidecar: SidecarProcess):
    hello = plane.hellos[0]
    assert (hello.protocol_version, hello.strongest_level) == (1000, agent_pb2.ISOLATION_LEVEL_STRICT)
    assert plane.tokens == ["Bearer sidecar-token"]
    plane.assign("task_1", shell("echo hello; echo oops >&2; env"), traceparent=TRACE)
    result = await plane.result()
    assert not result.HasField("failure"), sidecar.log()
    assert result.exit_code == 0
    assert "hello" in result.summary
    stdout = b"".join(output.data for output in plane.output("stdout")).decode()
    assert "CONDUCTOR_TASK_ID=task_1\n" in stdout
    assert "CONDUCTOR_AGENT_ID=agent-1\n" in stdout
    assert TRACE[:35] in stdout
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
    assert not any((sidecar.settings.home / "workspace/agent-1").iterdir())

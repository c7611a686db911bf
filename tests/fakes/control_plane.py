"""A real control plane process in a folder of the test, with its tokens and clients."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from claude_conductor.rpc.channel import bearer, open_channel
from claude_conductor.v1 import (
    admin_service_pb2_grpc,
    agent_service_pb2_grpc,
    artefact_service_pb2_grpc,
    audit_service_pb2_grpc,
    certificate_service_pb2_grpc,
    credential_service_pb2_grpc,
    enrolment_service_pb2_grpc,
    event_service_pb2_grpc,
    message_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
)
from controlplane.settings import GRPC_SERVER

OPERATOR_TOKEN = "operator-token-of-the-tests"
ROOT = Path(__file__).resolve().parents[2]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sidecar_token(agent_id: str) -> str:
    return f"sidecar-token-of-{agent_id}"


def free_port() -> int:
    """Return a port nobody listens on; somebody could take it before it is used, which the tests live with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ControlPlane:
    """Starts, kills and talks to one control plane."""

    def __init__(self, home: Path, agents: tuple[str, ...] = ("agent-1", "agent-2", "agent-3"), **settings: Any) -> None:
        self.home = home
        self.settings: dict[str, Any] = {
            "home": str(home),
            "operator_token_sha256": sha256(OPERATOR_TOKEN),
            "sidecar_tokens": {agent: sha256(sidecar_token(agent)) for agent in agents},
            "retry_delay": 0.05,
            "grpc_server": os.environ.get("CONDUCTOR_TEST_GRPC_SERVER", GRPC_SERVER),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.seconds_to_serving = 0.0
        self._channels: list[grpc.aio.Channel] = []

    @property
    def address(self) -> str:
        return f"unix:{self.home / 'run' / 'control.sock'}"

    def spawn(self, supervision: int | None = None, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        reader, writer = os.pipe()
        os.write(writer, json.dumps(self.settings).encode())
        os.close(writer)
        argv = [sys.executable, "-m", "controlplane", "--settings-fd", str(reader)]
        passed = [reader]
        if supervision is not None:
            argv += ["--supervision-fd", str(supervision)]
            passed.append(supervision)
        self.home.mkdir(exist_ok=True)
        log = (self.home / "controlplane.log").open("ab")
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            )
        finally:
            os.close(reader)
            log.close()
        return self.process

    async def start(self, supervision: int | None = None, environment: dict[str, str] | None = None) -> None:
        began = time.monotonic()
        process = self.spawn(supervision, environment)
        async with asyncio.timeout(20), open_channel(self.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while True:
                assert process.poll() is None, self.log()
                try:
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)
                    continue
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
        self.seconds_to_serving = time.monotonic() - began

    def log(self) -> str:
        return (self.home / "controlplane.log").read_text()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
        self.kill()

    def channel(self) -> grpc.aio.Channel:
        channel = open_channel(self.address)
        self._channels.append(channel)
        return channel

    def operator(self) -> Operator:
        return Operator(self.channel())


class Operator:
    """An operator's stubs; every call passes `**self.call`."""

    def __init__(self, channel: grpc.aio.Channel, token: str = OPERATOR_TOKEN, traceparent: str = "") -> None:
        self.call: dict[str, Any] = {"metadata": bearer(token, traceparent), "timeout": 20.0, "wait_for_ready": True}
        self.tasks = task_service_pb2_grpc.TaskServiceStub(channel)
        self.agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        self.messages = message_service_pb2_grpc.MessageServiceStub(channel)
        self.events = event_service_pb2_grpc.EventServiceStub(channel)
        self.artefacts = artefact_service_pb2_grpc.ArtefactServiceStub(channel)
        self.certificates = certificate_service_pb2_grpc.CertificateServiceStub(channel)
        self.credentials = credential_service_pb2_grpc.CredentialServiceStub(channel)
        self.enrolment = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(channel)

    async def submit(self, request_id: str = "", **spec: Any) -> Any:
        asked = {"driver": "scripted", "prompt": "do it", **spec}
        request = task_service_pb2.SubmitTaskRequest(request_id=request_id, spec=asked)
        return (await self.tasks.SubmitTask(request, **self.call)).task

    async def task(self, task_id: str) -> Any:
        return (await self.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id), **self.call)).task

    async def until(self, task_id: str, state: int) -> Any:
        """Return the task once it is in this state, by watching it."""
        async for answer in self.tasks.WatchTask(task_service_pb2.WatchTaskRequest(task_id=task_id), **self.call):
            if answer.task.state == state:
                return answer.task
        raise AssertionError(f"{task_id} ended otherwise: {await self.task(task_id)}")

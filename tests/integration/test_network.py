"""Sidecars, people and probes reach a control plane over a network: each by its own door, and by no other way."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from claude_conductor.identity import files, keys
from claude_conductor.rpc.channel import Tls, bearer, open_channel
from claude_conductor.v1 import admin_service_pb2, admin_service_pb2_grpc, agent_service_pb2, agent_service_pb2_grpc, task_pb2
from claude_conductor.v1 import certificate_service_pb2 as pb
from controlplane.identity import authority as signing
from tests.fakes.control_plane import OPERATOR_TOKEN, ROOT, ControlPlane
from tests.fakes.network import Network


async def status(address: str, tls: Tls | None, token: str = OPERATOR_TOKEN) -> grpc.StatusCode:
    """Return what a call that only people may make ends with."""
    async with open_channel(address, tls=tls) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        try:
            await stub.GetStatus(admin_service_pb2.GetStatusRequest(), metadata=bearer(token), timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_a_sidecar_with_a_certificate_works_over_the_network(network: Network) -> None:
    agent = await network.sidecar("agent-9")
    operator = network.plane.operator()
    task = await operator.submit()
    assignment = await asyncio.wait_for(agent.assignments.get(), 10)
    assert assignment.lease.task_id == task.task_id
    assert (await operator.until(task.task_id, task_pb2.TASK_STATE_LEASED)).agent_id == "agent-9"
    await agent.disconnect()


async def test_the_door_of_sidecars_lets_nobody_in_without_a_certificate_of_ours(network: Network) -> None:
    own, trust = await network.identity("agent-9"), await network.trust()
    foreign = signing.create(time.time())
    key = keys.new_key()
    stranger = signing.sign_agent(foreign, keys.request(key), "default", "agent-9", time.time())
    assert await status(network.sidecars, Tls(trust)) is grpc.StatusCode.UNAVAILABLE
    assert await status(network.sidecars, Tls(trust, stranger, key)) is grpc.StatusCode.UNAVAILABLE
    assert await status(network.sidecars, own) is grpc.StatusCode.UNAUTHENTICATED  # with the token of another door
    token = await network.token(own)
    assert await status(network.sidecars, own, token) is grpc.StatusCode.PERMISSION_DENIED
    async with open_channel(network.sidecars, tls=own) as channel:
        agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        asked = agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="agent-9"), metadata=bearer(token), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # it may ask, and is not there yet


async def test_a_control_plane_whose_root_one_does_not_know_is_not_spoken_to(network: Network) -> None:
    own = await network.identity("agent-9")
    for address in (network.sidecars, network.clients):
        assert await status(address, replace(own, trust=signing.create(time.time()).root)) is grpc.StatusCode.UNAVAILABLE
        assert await status(address, None) is grpc.StatusCode.UNAVAILABLE


async def test_people_come_in_with_a_token_and_the_root(network: Network) -> None:
    trust = Tls(await network.trust())
    assert await status(network.clients, trust) is grpc.StatusCode.OK
    assert await status(network.clients, trust, "wrong") is grpc.StatusCode.UNAUTHENTICATED
    assert await status(network.clients, trust, "") is grpc.StatusCode.UNAUTHENTICATED


async def test_the_probe_door_tells_health_and_nothing_else(network: Network) -> None:
    async with grpc.aio.insecure_channel(network.probe) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = channel.unary_unary("/claude_conductor.v1.AdminService/GetStatus")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", metadata=bearer(OPERATOR_TOKEN), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("door", ["sidecars", "clients"])
async def test_tls_older_than_1_3_is_refused(network: Network, door: str) -> None:
    def handshake(version: str) -> str:
        argv = ["openssl", "s_client", "-connect", getattr(network, door), version, "-alpn", "h2"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
        return done.stdout.decode(errors="replace")

    assert "New, TLSv1.3" in await asyncio.to_thread(handshake, "-tls1_3")
    assert "New, (NONE)" in await asyncio.to_thread(handshake, "-tls1_2")


async def test_a_rotation_drops_no_stream_and_both_old_and_new_are_let_in(network: Network) -> None:
    before = await network.identity("agent-8")
    agent = await network.sidecar("agent-8", before)
    operator = network.plane.operator()
    for _ in range(2):
        await operator.certificates.RotateAuthority(pb.RotateAuthorityRequest(), **operator.call)
    after = await network.identity("agent-9")
    assert after.trust != before.trust
    assert await status(network.clients, Tls(before.trust)) is grpc.StatusCode.OK
    assert await status(network.clients, Tls(after.trust)) is grpc.StatusCode.OK
    assert await status(network.sidecars, before) is grpc.StatusCode.UNAUTHENTICATED
    assert await status(network.sidecars, after) is grpc.StatusCode.UNAUTHENTICATED
    task = await operator.submit()
    assert (await asyncio.wait_for(agent.assignments.get(), 10)).lease.task_id == task.task_id
    assert agent.ended is None
    await agent.disconnect()


async def test_the_authority_survives_a_restart(network: Network) -> None:
    own = await network.identity("agent-9")
    network.plane.terminate()
    await network.plane.start()
    assert await network.trust() == own.trust
    assert await status(network.sidecars, own) is grpc.StatusCode.UNAUTHENTICATED


async def test_without_a_network_there_is_no_authority(control_plane: ControlPlane) -> None:
    operator = control_plane.operator()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.certificates.GetAuthority(pb.GetAuthorityRequest(), **operator.call)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert not (control_plane.home / "authority").exists()


async def test_an_address_somebody_listens_on_is_refused_with_a_sentence(tmp_path: Path, network: Network) -> None:
    second = ControlPlane(tmp_path / "second", listen={"clients": network.clients})
    process = second.spawn()
    assert await asyncio.to_thread(process.wait, 20) == 78
    assert "cannot be listened to" in second.log()
    assert network.clients in second.log()


def conductor(plane: ControlPlane, *words: str) -> subprocess.CompletedProcess[str]:
    (plane.home / "run" / "operator.token").write_text(OPERATOR_TOKEN)
    return subprocess.run(
        [sys.executable, "-m", "claude_conductor.cli.main", *words],
        env={**os.environ, "CONDUCTOR_HOME": str(plane.home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_the_command_line_shows_issues_and_rotates(network: Network, tmp_path: Path) -> None:
    async def run(*words: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(conductor, network.plane, *words)

    before = json.loads((await run("certs", "show", "-o", "json")).stdout)
    assert [each["kind"] for each in before] == ["root", "intermediate", "server"]
    issued = await run("certs", "issue", "agent-9", "--to", str(tmp_path / "mine"))
    assert issued.returncode == 0, issued.stderr
    assert (tmp_path / "mine" / "key.pem").stat().st_mode & 0o777 == 0o600
    mine = files.read(tmp_path / "mine")
    assert await status(network.sidecars, Tls(mine.trust, mine.chain, mine.key)) is grpc.StatusCode.UNAUTHENTICATED
    assert (await run("certs", "issue", "agent-9", "--to", str(tmp_path / "mine"))).returncode == 2
    rotated = await run("certs", "rotate-ca")
    assert rotated.returncode == 0, rotated.stderr
    after = json.loads((await run("certs", "show", "-o", "json")).stdout)
    assert after[0]["sha256"] in rotated.stdout
    assert after[3]["sha256"] == before[0]["sha256"]

"""A sidecar becomes an agent with a token that works once, and keeps being it by renewing what it got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from claude_conductor.client.joining import join, pin_of, root_at
from claude_conductor.errors import (
    AgentQuarantinedError,
    CertificateError,
    ConductorError,
    ControlPlaneUnavailableError,
    InvalidArgumentError,
    JoinRefusedError,
    UnauthenticatedError,
)
from claude_conductor.identity import kept as kept_identity
from claude_conductor.identity import keys
from claude_conductor.identity.kept import Kept
from claude_conductor.rpc.channel import Tls, bearer, open_channel
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import (
    agent_service_pb2,
    agent_service_pb2_grpc,
    certificate_service_pb2,
    enrolment_service_pb2,
    enrolment_service_pb2_grpc,
    task_pb2,
)
from claude_conductor.v1 import credential_service_pb2 as pb
from tests.fakes.network import Network
from tests.fakes.sidecar import Sidecar
from tests.fakes.sidecar_process import SidecarProcess, settings
from tests.fakes.waiting import eventually


async def join_token(network: Network, agent_id: str, **wish: Any) -> str:
    operator = network.plane.operator()
    request = pb.CreateJoinTokenRequest(agent_id=agent_id, **wish)
    return str((await operator.credentials.CreateJoinToken(request, **operator.call)).secret)


async def joined(network: Network, token: str) -> Kept:
    key = keys.new_key()
    return await join(network.clients, token, await root_at(network.clients, token), key, keys.request(key))


def tls(kept: Kept) -> Tls:
    return Tls(kept.trust.encode(), kept.chain.encode(), kept.key.encode())


async def ask(network: Network, tls: Tls, token: str) -> ConductorError | None:
    """Return what a sidecar's call is refused with."""
    async with open_channel(network.sidecars, tls=tls) as channel:
        agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        try:
            await agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=bearer(token), timeout=10)
        except grpc.aio.AioRpcError as error:
            found = from_call(error)
            return None if found.reason == "AGENT_NOT_FOUND" else found
    return None


async def test_of_a_hundred_who_use_a_join_token_at_once_one_becomes_the_agent(network: Network) -> None:
    token = await join_token(network, "agent-9", isolation_level="moderate")
    root = await root_at(network.clients, token)
    key = keys.new_key()
    request = enrolment_service_pb2.EnrolRequest(join_token=token, csr_pem=keys.request(key).decode())
    async with open_channel(network.clients, tls=Tls(root)) as channel:
        enrolment = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)

        async def attempt() -> Any:
            try:
                return await enrolment.Enrol(request, timeout=30, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                return from_call(error)

        got = await asyncio.gather(*(attempt() for _ in range(100)))
    (won,) = [each for each in got if not isinstance(each, ConductorError)]
    assert sum(isinstance(each, JoinRefusedError) for each in got) == 99
    assert (won.agent_id, won.tenant_id, won.isolation_level) == ("agent-9", "default", "moderate")
    assert won.address == network.sidecars
    own = Tls(won.credentials.trust_pem.encode(), won.credentials.chain_pem.encode(), key)
    assert await ask(network, own, won.credentials.token) is None
    with pytest.raises(JoinRefusedError):
        await joined(network, token)
    assert "a join token was refused" in network.plane.log()
    assert token not in network.plane.log()


async def test_a_join_token_is_refused_after_its_time_after_it_was_revoked_and_when_it_is_none(network: Network) -> None:
    operator = network.plane.operator()
    short = pb.CreateJoinTokenRequest(agent_id="agent-9")
    short.time_to_live.FromMilliseconds(1)
    late = (await operator.credentials.CreateJoinToken(short, **operator.call)).secret
    made = await operator.credentials.CreateJoinToken(pb.CreateJoinTokenRequest(agent_id="agent-9"), **operator.call)
    await operator.credentials.RevokeToken(pb.RevokeTokenRequest(token_id=made.token.token_id), **operator.call)
    person = await operator.credentials.CreateToken(pb.CreateTokenRequest(role="admin"), **operator.call)
    for bad in (late, made.secret, person.secret, "x" * 43 + made.secret[43:]):
        with pytest.raises(JoinRefusedError):
            await joined(network, bad)


async def test_a_request_that_cannot_be_signed_does_not_use_the_token_up(network: Network) -> None:
    token = await join_token(network, "agent-9")
    root = await root_at(network.clients, token)
    with pytest.raises(InvalidArgumentError):
        await join(network.clients, token, root, keys.new_key(), b"rubbish")
    assert (await joined(network, token)).agent_id == "agent-9"


async def test_a_token_of_an_agent_is_worth_nothing_with_another_certificate_or_at_another_door(network: Network) -> None:
    one, other = [await joined(network, await join_token(network, f"agent-{number}")) for number in (8, 9)]
    again = await joined(network, await join_token(network, "agent-8"))
    assert isinstance(await ask(network, tls(other), one.token), UnauthenticatedError)
    assert isinstance(await ask(network, tls(again), one.token), UnauthenticatedError)
    assert await ask(network, tls(one), one.token) is None
    async with open_channel(network.clients, tls=Tls(one.trust.encode())) as channel:
        agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        call = agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=bearer(one.token), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_whoever_is_not_the_control_plane_that_made_the_token_does_not_get_it(network: Network, tmp_path: Path) -> None:
    token = await join_token(network, "agent-9")
    impostor = Network.at(tmp_path / "impostor")
    await impostor.plane.start()
    try:
        with pytest.raises(CertificateError, match="not the control plane"):
            await root_at(impostor.clients, token)
    finally:
        await impostor.plane.close()
    with pytest.raises(ControlPlaneUnavailableError):
        await root_at(network.probe, token)  # no TLS there
    for cut in (token[:-1], token[1:], "", token + "x"):
        with pytest.raises(InvalidArgumentError):
            pin_of(cut)


async def test_an_agent_that_is_taken_out_is_cut_off_at_once_and_its_task_goes_on_elsewhere(network: Network) -> None:
    kept = await joined(network, await join_token(network, "agent-9"))
    agent = await Sidecar(network.sidecars, "agent-9", kept.token, tls=tls(kept)).connect()
    operator = network.plane.operator()
    task = await operator.submit()
    assert (await asyncio.wait_for(agent.assignments.get(), 10)).lease.task_id == task.task_id
    pending = await join_token(network, "agent-9")
    began = time.monotonic()
    request = agent_service_pb2.QuarantineAgentRequest(agent_id="agent-9", reason="it looks odd")
    done = asyncio.ensure_future(operator.agents.QuarantineAgent(request, **operator.call))
    await eventually(lambda: agent.ended is not None)
    assert time.monotonic() - began < 0.2
    await done
    assert agent.ended is not None
    assert agent.ended.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await operator.until(task.task_id, task_pb2.TASK_STATE_QUEUED)).task_id == task.task_id
    assert isinstance(await ask(network, tls(kept), kept.token), AgentQuarantinedError)
    for token in (pending,):
        with pytest.raises(AgentQuarantinedError):
            await joined(network, token)
    network.plane.terminate()
    await network.plane.start()
    assert isinstance(await ask(network, tls(kept), kept.token), AgentQuarantinedError)
    operator = network.plane.operator()
    await operator.agents.ReleaseAgent(agent_service_pb2.ReleaseAgentRequest(agent_id="agent-9"), **operator.call)
    assert isinstance(await ask(network, tls(kept), kept.token), UnauthenticatedError)  # what was revoked stays so
    fresh = await joined(network, await join_token(network, "agent-9"))
    assert await ask(network, tls(fresh), fresh.token) is None
    await agent.disconnect()


async def test_a_local_agent_that_is_taken_out_is_cut_off_too(network: Network) -> None:
    agent = await Sidecar(network.plane.address, "agent-1", "sidecar-token-of-agent-1").connect()
    operator = network.plane.operator()
    await operator.agents.QuarantineAgent(agent_service_pb2.QuarantineAgentRequest(agent_id="agent-1"), **operator.call)
    await eventually(lambda: agent.ended is not None)
    with pytest.raises((AssertionError, grpc.aio.AioRpcError), match="kept out"):
        await agent.connect()
    await operator.agents.ReleaseAgent(agent_service_pb2.ReleaseAgentRequest(agent_id="agent-1"), **operator.call)
    await agent.connect()
    await agent.disconnect()


async def test_a_certificate_alone_is_enough_for_another_token_and_for_nothing_else(network: Network) -> None:
    own = await network.identity("agent-9")
    async with open_channel(network.sidecars, tls=own) as channel:
        enrolment = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
        answer = await enrolment.Renew(enrolment_service_pb2.RenewRequest(), timeout=10)
        assert not answer.credentials.chain_pem
        key = keys.new_key()
        renewed = await enrolment.Renew(enrolment_service_pb2.RenewRequest(csr_pem=keys.request(key).decode()), timeout=10)
    assert await ask(network, own, answer.credentials.token) is None
    assert isinstance(await ask(network, own, renewed.credentials.token), UnauthenticatedError)
    new = replace(own, chain=renewed.credentials.chain_pem.encode(), key=key)
    assert await ask(network, new, renewed.credentials.token) is None


@pytest.fixture
async def turning(tmp_path: Path) -> AsyncIterator[Network]:
    """A network whose certificates end after six seconds."""
    opened = Network.at(tmp_path / "home", certificate_seconds=6.0)
    await opened.plane.start()
    yield opened
    await opened.plane.close()


async def test_a_sidecar_works_on_while_its_certificate_the_servers_and_the_authority_are_replaced(
    turning: Network, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = elsewhere / "joined.json"
    first = await joined(turning, await join_token(turning, "agent-9"))
    kept_identity.write(path, first)
    sidecar = SidecarProcess(settings(elsewhere, agent_id="agent-9", control_plane=turning.sidecars, identity=path))
    await sidecar.start()
    operator = turning.plane.operator()
    try:
        begun = asyncio.get_running_loop().time()
        done, rotations = 0, 0
        while (passed := asyncio.get_running_loop().time() - begun) < 15.0 or done < 5:
            task = await operator.submit(prompt="sleep 0.2")
            ended = await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
            assert len(ended.attempts) == 1, f"{ended.attempts}\n{sidecar.log()[-6000:]}"
            done += 1
            if passed > 5.0 * (rotations + 1):
                rotations += 1
                await operator.certificates.RotateAuthority(certificate_service_pb2.RotateAuthorityRequest(), **operator.call)
        last = kept_identity.read(path)
        assert last.chain != first.chain
        assert last.trust != first.trust
        assert sidecar.log().count("the certificate was renewed") >= 3
        assert "not connected" not in sidecar.log(), sidecar.log()
    finally:
        await sidecar.stop()

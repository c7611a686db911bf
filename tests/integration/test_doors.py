"""Every method there is refuses whoever has no right to it; the methods come from the descriptors, so a new one is covered."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

import claude_conductor.v1
from claude_conductor.rpc.channel import Tls, bearer, open_channel
from claude_conductor.v1 import agent_service_pb2, message_service_pb2, task_service_pb2
from claude_conductor.v1 import credential_service_pb2 as pb
from controlplane.api.guard.peer import RENEW
from controlplane.api.guard.rights import OPEN, RIGHTS
from controlplane.domain.identity import Role
from tests.fakes.control_plane import Operator
from tests.fakes.network import Network
from tests.fakes.sidecar import Sidecar
from tests.fakes.waiting import eventually

METHODS = sorted(
    f"/{service.full_name}/{method.name}"
    for module in pkgutil.iter_modules(claude_conductor.v1.__path__)
    if module.name.endswith("_service_pb2") and module.name != "local_service_pb2"  # that one is the sidecar's, for its agent
    for service in importlib.import_module(f"claude_conductor.v1.{module.name}").DESCRIPTOR.services_by_name.values()
    for method in service.methods
)


async def end(channel: grpc.aio.Channel, method: str, token: str) -> tuple[grpc.StatusCode, str]:
    """Return what an empty call ends with; whether the method streams is the same on the wire."""
    call = channel.unary_stream(method)(b"", metadata=bearer(token), timeout=10)
    return grpc.StatusCode(await call.code()), await call.details()


@dataclass(frozen=True)
class Callers:
    network: Network
    trust: bytes
    admin: Operator

    async def token(self, role: str, **wish: object) -> pb.CreateTokenResponse:
        return await self.admin.credentials.CreateToken(pb.CreateTokenRequest(role=role, **wish), **self.admin.call)


@pytest.fixture
async def callers(network: Network) -> Callers:
    return Callers(network, await network.trust(), network.plane.operator())


def test_every_method_is_in_the_table_of_rights_and_nothing_else_is() -> None:
    assert set(METHODS) == set(RIGHTS) | {method for method in OPEN if method.startswith("/claude_conductor")}
    assert all(Role.AGENT not in roles for roles in RIGHTS.values())
    agents = {method for method, roles in RIGHTS.items() if Role.SIDECAR in roles}
    assert not {method for method in agents if "Credential" in method or "Certificate" in method or "Quarantine" in method}


async def test_every_method_refuses_who_is_nobody_or_is_nobody_any_more(callers: Callers, tmp_path: Path) -> None:
    expired = pb.CreateTokenRequest(role="admin")
    expired.time_to_live.FromMilliseconds(1)
    late = (await callers.admin.credentials.CreateToken(expired, **callers.admin.call)).secret
    revoked = await callers.token("admin")
    await callers.admin.credentials.RevokeToken(pb.RevokeTokenRequest(token_id=revoked.token.token_id), **callers.admin.call)
    stranger = Network.at(tmp_path / "stranger")
    await stranger.plane.start()
    other = stranger.plane.operator()
    foreign = (await other.credentials.CreateToken(pb.CreateTokenRequest(role="admin"), **other.call)).secret
    await stranger.plane.close()
    own = await callers.network.identity("agent-9")
    sidecars = await callers.network.token(own)
    bad = {"none": "", "rubbish": "x", "expired": late, "revoked": revoked.secret, "foreign": foreign}
    wrong: list[str] = []
    doors = {
        "socket": (callers.network.plane.address, None, {**bad, "a sidecar's": sidecars}),
        "clients": (callers.network.clients, Tls(callers.trust), {**bad, "a sidecar's": sidecars}),
        "sidecars": (callers.network.sidecars, own, bad),
    }
    asked = 0
    for door, (address, tls, tokens) in doors.items():
        async with open_channel(address, tls=tls) as channel:
            for method in METHODS:
                if method in OPEN or (door == "sidecars" and method == RENEW):
                    continue
                for name, token in tokens.items():
                    asked += 1
                    found, details = await end(channel, method, token)
                    if found is not grpc.StatusCode.UNAUTHENTICATED:
                        wrong.append(f"{door} {method} {name}: {found} {details}")
    assert wrong == []
    assert asked > 15 * len(METHODS)


async def test_every_method_refuses_the_roles_that_are_not_its_own(callers: Callers) -> None:
    people = {role: (await callers.token(role.value)).secret for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER)}
    own = await callers.network.identity("agent-9")
    doors = [
        (callers.network.clients, Tls(callers.trust), people),
        (callers.network.plane.address, None, people),
        (callers.network.sidecars, own, {Role.SIDECAR: await callers.network.token(own)}),
    ]
    wrong: list[str] = []
    for address, tls, tokens in doors:
        async with open_channel(address, tls=tls) as channel:
            for method, roles in RIGHTS.items():
                for role, token in tokens.items():
                    if role in roles:
                        continue
                    found, details = await end(channel, method, token)
                    if found is not grpc.StatusCode.PERMISSION_DENIED:
                        wrong.append(f"{method} {role.value}: {found} {details}")
    assert wrong == []


async def test_a_tenant_sees_nothing_of_another_and_gives_no_tokens_for_it(callers: Callers) -> None:
    agent = await Sidecar(callers.network.plane.address, "agent-1", "sidecar-token-of-agent-1").connect()
    task = await callers.admin.submit()
    theirs = (await callers.token("admin", tenant_id="other")).secret
    async with open_channel(callers.network.clients, tls=Tls(callers.trust)) as channel:
        other = Operator(channel, theirs)
        assert not (await other.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), **other.call)).agents
        assert not (await other.tasks.ListTasks(task_service_pb2.ListTasksRequest(), **other.call)).tasks
        assert not (await other.credentials.ListTokens(pb.ListTokensRequest(), **other.call)).tokens[1:]
        named = [
            other.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task.task_id), **other.call),
            other.tasks.CancelTask(task_service_pb2.CancelTaskRequest(task_id=task.task_id), **other.call),
            other.agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="agent-1"), **other.call),
            other.agents.QuarantineAgent(agent_service_pb2.QuarantineAgentRequest(agent_id="agent-1"), **other.call),
            other.messages.GetMessage(message_service_pb2.GetMessageRequest(message_id="msg_" + "0" * 32), **other.call),
        ]
        for call in named:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await other.credentials.CreateToken(pb.CreateTokenRequest(role="admin", tenant_id="default"), **other.call)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert agent.ended is None
    await agent.disconnect()


async def test_a_stream_ends_with_the_token_it_was_opened_with(callers: Callers) -> None:
    made = await callers.token("viewer")
    task = await callers.admin.submit()
    async with open_channel(callers.network.clients, tls=Tls(callers.trust)) as channel:
        viewer = Operator(channel, made.secret)
        call = viewer.tasks.WatchTask(task_service_pb2.WatchTaskRequest(task_id=task.task_id), **viewer.call)
        await call.read()
        revoke = pb.RevokeTokenRequest(token_id=made.token.token_id)
        await callers.admin.credentials.RevokeToken(revoke, **callers.admin.call)
        await eventually(call.done, 1.0)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED

        short = pb.CreateTokenRequest(role="viewer")
        short.time_to_live.FromSeconds(1)
        ending = (await callers.admin.credentials.CreateToken(short, **callers.admin.call)).secret
        viewer = Operator(channel, ending)
        call = viewer.tasks.WatchTask(task_service_pb2.WatchTaskRequest(task_id=task.task_id), **viewer.call)
        await call.read()
        await eventually(call.done, 5.0)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED

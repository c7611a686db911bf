"""The control plane as a service: who gets in, what is served, events, artefacts, health, start and stop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from claude_conductor.rpc.channel import bearer
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import (
    admin_service_pb2,
    agent_pb2,
    agent_service_pb2,
    artefact_service_pb2,
    event_service_pb2,
    task_pb2,
    task_service_pb2,
)
from controlplane.api.guard.rights import OPEN
from tests.fakes.control_plane import ROOT, ControlPlane, Operator, sidecar_token

DESCRIPTORS = ROOT / "claude_conductor" / "v1" / "claude_conductor.v1.binpb"
NOT_SERVED_HERE = {"LocalService"}


def methods() -> list[tuple[str, bool, bool]]:
    """Return (path, client streams, server streams) of every method of every service of the control plane."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    return [
        (f"/{file.package}.{service.name}/{method.name}", method.client_streaming, method.server_streaming)
        for file in files.file
        for service in file.service
        if file.package == "claude_conductor.v1" and service.name not in NOT_SERVED_HERE
        for method in service.method
        if f"/{file.package}.{service.name}/{method.name}" not in OPEN
    ]


async def call(channel: grpc.aio.Channel, method: tuple[str, bool, bool], token: str) -> grpc.StatusCode:
    """Call a method and return how it ended. A stream stays empty: a write that meets a refusal would hide its status."""
    path, sends, receives = method
    kind = {(0, 0): "unary_unary", (0, 1): "unary_stream", (1, 0): "stream_unary", (1, 1): "stream_stream"}[sends, receives]
    invoke: Any = getattr(channel, kind)(path)
    sent: Any = nothing() if sends else b""
    running = invoke(sent, metadata=bearer(token), timeout=10)
    if receives:
        await running.read()
    else:
        await asyncio.gather(running, return_exceptions=True)
    code: grpc.StatusCode = await running.code()
    running.cancel()
    return code


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)  # longer than the call
    yield b""


@pytest.mark.parametrize("method", methods(), ids=lambda method: method[0].rpartition(".")[2])
async def test_nobody_without_a_right_gets_in(shared: ControlPlane, method: tuple[str, bool, bool]) -> None:
    channel = shared.channel()
    for token in ("", "wrong", "operator-token-of-the-tests-and-more"):
        try:
            code = await call(channel, method, token)
        except grpc.aio.AioRpcError as error:
            code = error.code()
        assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_roles_are_kept_apart(shared: ControlPlane) -> None:
    channel = shared.channel()
    as_sidecar = Operator(channel, sidecar_token("agent-1"))
    for refused in (
        as_sidecar.tasks.ListTasks(task_service_pb2.ListTasksRequest(), **as_sidecar.call),
        as_sidecar.admin.GetStatus(admin_service_pb2.GetStatusRequest(), **as_sidecar.call),
        as_sidecar.tasks.CancelTask(task_service_pb2.CancelTaskRequest(task_id="x"), **as_sidecar.call),
        as_sidecar.submit(),  # it works on no task
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await refused
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    stream = channel.stream_stream("/claude_conductor.v1.SessionService/Connect")(metadata=Operator(channel).call["metadata"])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stream.read()
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("garbage", [b"\xff\xff", b"", b"\x08\x01", b"\x1a\x02\x0a\x05", b"\x12\x00"])
async def test_a_session_that_does_not_begin_with_a_hello_ends(shared: ControlPlane, garbage: bytes) -> None:
    stream: Any = shared.channel().stream_stream("/claude_conductor.v1.SessionService/Connect")
    running = stream(metadata=bearer(sidecar_token("agent-1")), timeout=10, wait_for_ready=True)
    await running.write(garbage)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await running.read()
    assert from_call(error.value).reason in {"MALFORMED_FRAME", "INVALID_ARGUMENT"}


async def test_another_protocol_version_is_refused(shared: ControlPlane, sidecar_of) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sidecar_of(shared, "agent-1", protocol_version=2000)
    assert from_call(refused.value).reason == "PROTOCOL_VERSION_MISMATCH"


async def test_health_and_reflection_are_open(shared: ControlPlane) -> None:
    channel = shared.channel()
    health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = stub.ServerReflectionInfo(timeout=10)
    await asked.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await asked.read()).list_services_response.service}
    await asked.done_writing()
    declared = {method.lstrip("/").partition("/")[0] for method, _, _ in methods()}
    assert declared <= listed


async def test_status_tells_what_runs(shared: ControlPlane) -> None:
    operator = shared.operator()
    status = await operator.admin.GetStatus(admin_service_pb2.GetStatusRequest(), **operator.call)
    assert shared.process is not None
    assert (status.store, status.protocol_version, status.pid) == ("sqlite", 1000, shared.process.pid)


async def test_the_socket_is_private(shared: ControlPlane) -> None:
    mode = (shared.home / "run" / "control.sock").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_events_go_on_from_a_cursor_and_can_be_filtered(shared: ControlPlane, sidecar_of) -> None:
    operator = shared.operator()
    await sidecar_of(shared, "agent-1")
    task = await operator.submit(agent_id="agent-9", required_labels={"never": "there"})
    request = event_service_pb2.WatchEventsRequest(after_cursor=0, task_id=task.task_id)
    watching = operator.events.WatchEvents(request, **operator.call)
    queued = (await watching.read()).event
    assert queued.type == "task.queued"
    cancel = task_service_pb2.CancelTaskRequest(task_id=task.task_id)
    await operator.tasks.CancelTask(cancel, **operator.call)
    cancelled = (await watching.read()).event
    assert (cancelled.type, cancelled.cursor > queued.cursor) == ("task.cancelled", True)
    watching.cancel()
    resumed = operator.events.WatchEvents(
        event_service_pb2.WatchEventsRequest(after_cursor=queued.cursor, task_id=task.task_id), **operator.call
    )
    assert (await resumed.read()).event == cancelled
    resumed.cancel()


async def test_agents_are_listed_and_a_peer_learns_nothing_about_hosts(shared: ControlPlane, sidecar_of) -> None:
    operator = shared.operator()
    await sidecar_of(shared, "agent-2", labels={"zone": "a"})
    request = agent_service_pb2.GetAgentRequest(agent_id="agent-2")
    agent = (await operator.agents.GetAgent(request, **operator.call)).agent
    assert (agent.state, agent.host, dict(agent.labels)) == (agent_pb2.AGENT_STATE_IDLE, "test", {"zone": "a"})
    peer = Operator(shared.channel(), sidecar_token("agent-1"))
    assert (await peer.agents.GetAgent(request, **peer.call)).agent.host == ""
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await operator.agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="nobody"), **operator.call)
    assert from_call(unknown.value).reason == "AGENT_NOT_FOUND"


async def test_an_agent_that_left_is_forgotten_and_one_that_only_vanished_is_lost(shared: ControlPlane, sidecar_of) -> None:
    operator = shared.operator()
    leaving, vanishing = [await sidecar_of(shared, name) for name in ("agent-1", "agent-2")]
    resident = await sidecar_of(shared, "agent-3", long_running=True)  # it has a mailbox that others write to
    await leaving.leave()
    await vanishing.disconnect()
    await resident.leave()

    async def there() -> dict[str, str]:
        answer = await operator.agents.ListAgents(agent_service_pb2.ListAgentsRequest(page_size=1000), **operator.call)
        return {each.agent_id: agent_pb2.AgentState.Name(each.state) for each in answer.agents}

    lost = {"agent-2": "AGENT_STATE_LOST", "agent-3": "AGENT_STATE_LOST"}
    async with asyncio.timeout(10):
        while not (agents := await there()).items() >= lost.items() or "agent-1" in agents:  # noqa: ASYNC110 - each look is a call
            await asyncio.sleep(0.02)
    request = agent_service_pb2.GetAgentRequest(agent_id="agent-3")
    assert (await operator.agents.GetAgent(request, **operator.call)).agent.state_reason == "its sidecar was stopped"


async def test_lists_come_in_pages(shared: ControlPlane) -> None:
    operator = shared.operator()
    made = [(await operator.submit(labels={"set": "pages"}, required_labels={"never": "there"})).task_id for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = task_service_pb2.ListTasksRequest(page_size=2, page_token=token, labels={"set": "pages"})
        page = await operator.tasks.ListTasks(request, **operator.call)
        seen += [task.task_id for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.tasks.ListTasks(task_service_pb2.ListTasksRequest(page_token="%%%"), **operator.call)
    assert from_call(refused.value).details["field"] == "page_token"


async def test_a_file_comes_back_as_it_went_and_a_wrong_hash_is_refused(shared: ControlPlane) -> None:
    operator = shared.operator()
    content = os.urandom(600_000)
    said = task_pb2.Artefact(name="x.bin", size_bytes=len(content), sha256=hashlib.sha256(content).digest())

    async def chunks(artefact: task_pb2.Artefact) -> AsyncIterator[artefact_service_pb2.WriteArtefactRequest]:
        yield artefact_service_pb2.WriteArtefactRequest(artefact=artefact)
        for start in range(0, len(content), 200_000):
            yield artefact_service_pb2.WriteArtefactRequest(data=content[start : start + 200_000])

    stored = (await operator.artefacts.WriteArtefact(chunks(said), **operator.call)).artefact
    assert stored.sha256 == said.sha256
    request = artefact_service_pb2.ReadArtefactRequest(artefact_id=stored.artefact_id, offset=100)
    parts = [answer.data async for answer in operator.artefacts.ReadArtefact(request, **operator.call)]
    assert b"".join(parts) == content[100:]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.artefacts.WriteArtefact(chunks(task_pb2.Artefact(sha256=bytes(32))), **operator.call)
    assert from_call(refused.value).details["field"] == "artefact.sha256"


async def test_it_stops_on_sigterm_after_telling_its_sidecars(tmp_path: Path, sidecar_of) -> None:
    plane = ControlPlane(tmp_path / "home", store="memory")
    await plane.start()
    agent = await sidecar_of(plane, "agent-1")
    assert await asyncio.to_thread(plane.terminate) == 0
    async with asyncio.timeout(10):
        await agent.moves.get()
    assert not (plane.home / "run" / "control.sock").exists()
    assert "Traceback" not in plane.log()
    await plane.close()


async def test_what_keeps_it_from_starting_is_one_clear_line(shared: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = [
        (ControlPlane(shared.home), "Another program listens on this address"),
        (ControlPlane(tmp_path / "odd", store="papyrus"), "A store is `sqlite`, `memory` or the URL of a Redis server"),
        (ControlPlane(tmp_path / "wrong", no_such_setting=1), "key this version does not know"),
        (ControlPlane(tmp_path / ("long" * 30)), "longer than the kernel takes"),
    ]
    for plane, line in cases:
        already = plane.log() if (plane.home / "controlplane.log").exists() else ""
        process = plane.spawn()
        assert await asyncio.to_thread(process.wait, 20) == 78
        said = plane.log().removeprefix(already)
        assert line in said
        assert "Traceback" not in said
    assert json.loads(shared.log().splitlines()[0])["message"] == "serving"


ONLY_GRPCIO = 0xFE03
"""A setting of HTTP/2 that grpcio made for itself: whether metadata may be binary. No other server announces it."""


@pytest.mark.parametrize("grpc_server", ["grpcio", "native"])
async def test_the_server_is_the_one_that_was_asked_for(tmp_path: Path, grpc_server: str) -> None:
    plane = ControlPlane(tmp_path / "home", grpc_server=grpc_server)
    await plane.start()
    reader, writer = await asyncio.open_unix_connection(plane.address.removeprefix("unix:"))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))  # the preface and empty SETTINGS
    head = await reader.readexactly(9)
    settings = await reader.readexactly(int.from_bytes(head[:3]))
    writer.close()
    await plane.close()

    announced = {int.from_bytes(settings[at : at + 2]) for at in range(0, len(settings), 6)}
    assert (ONLY_GRPCIO in announced) == (grpc_server == "grpcio")

"""What is decided and changed leaves a record, and whatever is done to the records is found."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from claude_conductor.rpc.channel import Tls, open_channel
from claude_conductor.v1 import agent_service_pb2, credential_service_pb2, task_service_pb2
from claude_conductor.v1 import audit_service_pb2 as pb
from tests.fakes.control_plane import OPERATOR_TOKEN, ROOT, ControlPlane, Operator
from tests.fakes.network import Network
from tests.fakes.sidecar import Sidecar
from tests.fakes.waiting import eventually


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


async def records(operator: Operator) -> list[tuple[str, str, str, str]]:
    answer = await operator.audit.ListAuditRecords(pb.ListAuditRecordsRequest(page_size=1000), **operator.call)
    return [(each.actor, each.action, each.outcome, each.target) for each in answer.records]


async def test_a_call_whose_record_cannot_be_written_is_unavailable_and_the_same_key_finds_what_it_did(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path / "home", store="sqlite")
    await plane.start()
    operator = plane.operator()
    with sqlite3.connect(plane.home / "state" / "conductor.db", isolation_level=None) as database:
        database.execute("ALTER TABLE audit RENAME TO audit_away")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await operator.submit("key")
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        database.execute("ALTER TABLE audit_away RENAME TO audit")
    database.close()
    task = await operator.submit("key")
    asked = [("operator", "TaskService/SubmitTask", "ok", task.task_id)] * 2
    async with asyncio.timeout(10):
        while await records(operator) != asked:  # noqa: ASYNC110 - each look is a call
            await asyncio.sleep(0.05)
    assert "Traceback" not in plane.log()
    await plane.close()


async def test_mutations_and_refusals_are_recorded_with_who_and_what(network: Network) -> None:
    operator = network.plane.operator()
    task = await operator.submit(prompt="a canary in a prompt")
    made = await operator.credentials.CreateToken(
        credential_service_pb2.CreateTokenRequest(role="viewer", name="canary"), **operator.call
    )
    await operator.task(task.task_id)  # a read leaves nothing
    async with open_channel(network.clients, tls=Tls(await network.trust())) as channel:
        for token, expected in ((made.secret, "PERMISSION_DENIED"), ("rubbish", "UNAUTHENTICATED")):
            caller = Operator(channel, token)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await caller.tasks.CancelTask(task_service_pb2.CancelTaskRequest(task_id=task.task_id), **caller.call)
            assert refused.value.code().name == expected
    agent = await Sidecar(network.plane.address, "agent-1", "sidecar-token-of-agent-1").connect()
    await operator.agents.QuarantineAgent(agent_service_pb2.QuarantineAgentRequest(agent_id="agent-1"), **operator.call)
    await eventually(lambda: agent.ended is not None)
    cut_off = ("agent/agent-1", "SessionService/Connect", "UNAUTHENTICATED", "")
    found = [each for each in await records(operator) if each != cut_off]
    assert found == [
        ("operator", "TaskService/SubmitTask", "ok", task.task_id),
        ("operator", "CredentialService/CreateToken", "ok", made.token.token_id),
        (made.token.token_id, "TaskService/CancelTask", "PERMISSION_DENIED", ""),
        ("", "TaskService/CancelTask", "UNAUTHENTICATED", ""),
        ("operator", "AgentService/QuarantineAgent", "ok", "agent-1"),
    ]
    text = (await asyncio.to_thread(conductor, network.plane, "audit", "list", "-o", "json")).stdout
    assert "QuarantineAgent" in text
    for canary in ("canary", made.secret, OPERATOR_TOKEN):
        assert canary not in text
    await agent.disconnect()


async def test_the_chain_is_checked_live_and_offline_and_every_change_is_found(network: Network, tmp_path: Path) -> None:
    operator, plane = network.plane.operator(), network.plane

    async def run(*words: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(conductor, plane, *words)

    for number in range(6):
        await operator.submit(prompt=str(number))
    live = await run("audit", "verify")
    assert live.returncode == 0, live.stderr
    assert "6 records are as they were written; 6 of them" in live.stdout
    export = tmp_path / "chain.jsonl"
    assert (await run("audit", "export", "--to", str(export))).returncode == 0
    assert (await run("audit", "verify", str(export))).returncode == 0
    lines = export.read_text().splitlines()
    cut = tmp_path / "cut.jsonl"
    cut.write_text("\n".join(line for line in lines if '"number": 6' not in line or "head" in line) + "\n")
    found = await run("audit", "verify", str(cut))
    assert found.returncode == 1
    assert "Record 6" in found.stderr
    edited = tmp_path / "edited.jsonl"
    edited.write_text("\n".join(line.replace("operator", "somebody") if '"number": 3' in line else line for line in lines) + "\n")
    assert "Record 3" in (await run("audit", "verify", str(edited))).stderr
    assert (await run("audit", "verify", str(plane.home / "controlplane.log"))).returncode == 2

    plane.terminate()
    with sqlite3.connect(next(plane.home.glob("state/*.db"))) as database:
        (body,) = database.execute("SELECT body FROM audit WHERE number = 4").fetchone()
        changed = {**json.loads(body), "actor": "nobody"}
        database.execute("UPDATE audit SET body = ? WHERE number = 4", (json.dumps(changed),))
    database.close()
    await plane.start()
    broken = await run("audit", "verify")
    assert broken.returncode == 1
    assert "Record 4" in broken.stderr


async def test_only_the_tenant_that_runs_conductor_reads_the_chain(network: Network) -> None:
    operator = network.plane.operator()
    request = credential_service_pb2.CreateTokenRequest(role="admin", tenant_id="other")
    theirs = (await operator.credentials.CreateToken(request, **operator.call)).secret
    other = Operator(network.plane.channel(), theirs)
    for call in (
        other.audit.ListAuditRecords(pb.ListAuditRecordsRequest(), **other.call),
        other.audit.GetAuditHeads(pb.GetAuditHeadsRequest(), **other.call),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

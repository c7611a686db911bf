"""Policy and rate limit through a real control plane: refused before anything is stored, with a reason, and told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from claude_conductor.errors import PolicyDeniedError, RateLimitedError
from claude_conductor.rpc.channel import bearer, open_channel
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import agent_service_pb2, agent_service_pb2_grpc, event_service_pb2, message_service_pb2
from tests.fakes.control_plane import ControlPlane, sidecar_token
from tests.fakes.sidecar import Sidecar

WORKERS = {
    "name": "workers do not write to each other",
    "effect": "deny",
    "sender": {"labels": {"role": "worker"}},
    "receiver": {"labels": {"role": "worker"}},
}
SECRETS = {"name": "no secrets for people", "effect": "deny", "receiver": {"kind": "operator"}, "types": ["secret.*"]}
SLOW = {"messages_a_second": 2.0, "messages_at_once": 10}


@pytest.fixture
async def ruled(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path / "home", policy={"rules": [WORKERS, SECRETS]}, store="memory")
    await plane.start()
    yield plane
    await plane.close()


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path / "home", limits=SLOW, store="memory")
    await plane.start()
    yield plane
    await plane.close()


async def refusal(agent: Sidecar, recipient: str, **header: Any) -> str:
    refused = await agent.committed(await agent.say(recipient, "x", **header))
    return refused.reason if refused is not None else ""


async def test_a_message_a_rule_is_against_is_refused_by_name_and_told(ruled: ControlPlane, sidecar_of) -> None:
    worker = await sidecar_of(ruled, "agent-1", long_running=True, labels={"role": "worker"})
    await sidecar_of(ruled, "agent-2", long_running=True, labels={"role": "worker"})
    boss = await sidecar_of(ruled, "agent-3", long_running=True)

    sequence = await worker.say("agent-2", "x")
    refused = await worker.committed(sequence)

    assert refused is not None
    assert (refused.reason, refused.HasField("retry_delay")) == ("POLICY_DENIED", False)
    assert "denied by rule no. 1 'workers do not write to each other'" in refused.message
    assert await refusal(worker, "agent-3") == ""
    assert await refusal(boss, "agent-1") == ""
    operator = ruled.operator()
    listed = await operator.messages.ListMessages(message_service_pb2.ListMessagesRequest(recipient="agent-2"), **operator.call)
    assert list(listed.records) == []
    request = event_service_pb2.WatchEventsRequest(after_cursor=0, type_prefixes=["message.denied"])
    async for answer in operator.events.WatchEvents(request, **operator.call):
        assert (answer.event.agent_id, answer.event.details["recipient"]) == ("agent-1", "agent-2")
        break


async def test_a_sidecar_that_comes_back_with_other_labels_meets_other_rules(ruled: ControlPlane, sidecar_of) -> None:
    worker = await sidecar_of(ruled, "agent-1", long_running=True, labels={"role": "worker"})
    other = await sidecar_of(ruled, "agent-2", long_running=True)
    assert await refusal(worker, "agent-2") == ""
    await other.disconnect()

    await sidecar_of(ruled, "agent-2", long_running=True, labels={"role": "worker"})

    assert await refusal(worker, "agent-2") == "POLICY_DENIED"


async def test_rules_hold_for_callers_without_a_sidecar_and_for_types(tmp_path: Path) -> None:
    nobody = {"name": "hands off", "effect": "deny", "sender": {"kind": "operator"}, "types": ["order"]}
    plane = ControlPlane(tmp_path / "home", policy={"rules": [nobody], "otherwise": "allow"}, store="memory")
    await plane.start()
    try:
        operator = plane.operator()

        async def send(kind: str) -> None:
            request = message_service_pb2.SendMessageRequest(recipient="operator", envelope={"type": kind})
            await operator.messages.SendMessage(request, **operator.call)

        await send("note")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await send("order")
        assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED
        error = from_call(failed.value)
        assert isinstance(error, PolicyDeniedError)
        assert "rule no. 1 'hands off'" in error.message
    finally:
        await plane.close()


async def test_an_agent_sees_the_peers_it_may_write_to(ruled: ControlPlane, sidecar_of) -> None:
    for name, labels in (("agent-1", {"role": "worker"}), ("agent-2", {"role": "worker"}), ("agent-3", {})):
        await sidecar_of(ruled, name, long_running=True, labels=labels)
    call: dict[str, Any] = {"metadata": bearer(sidecar_token("agent-1")), "timeout": 20.0}
    async with open_channel(ruled.address) as channel:
        stub: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        seen = await stub.ListAgents(agent_service_pb2.ListAgentsRequest(), **call)
        assert [agent.agent_id for agent in seen.agents] == ["agent-3"]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="agent-2"), **call)
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    operator = ruled.operator()
    everyone = await operator.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), **operator.call)
    assert len(everyone.agents) == 3


async def test_a_subtask_writes_to_its_parent_and_siblings_and_not_to_other_families(ruled: ControlPlane, sidecar_of) -> None:
    operator = ruled.operator()
    agents = [await sidecar_of(ruled, f"agent-{number}") for number in (1, 2, 3)]
    parent = await operator.submit(agent_id="agent-1")
    child = await operator.submit(agent_id="agent-2", parent_task_id=parent.task_id)
    niece = await operator.submit(agent_id="agent-3", parent_task_id=child.task_id)
    boxes = [(await agent.next_assignment()).mailbox for agent in agents]
    sibling = await operator.submit(agent_id="agent-1", parent_task_id=parent.task_id)

    answers = [
        await refusal(agents[1], boxes[0], task_id=child.task_id),
        await refusal(agents[0], boxes[1], task_id=parent.task_id),
        await refusal(agents[1], f"task/{sibling.task_id}", task_id=child.task_id),
        await refusal(agents[2], boxes[1], task_id=niece.task_id),
        await refusal(agents[2], boxes[0], task_id=niece.task_id),
        await refusal(agents[2], f"task/{sibling.task_id}", task_id=niece.task_id),
    ]

    assert answers == ["", "", "", "", "POLICY_DENIED", "POLICY_DENIED"]


async def test_a_message_to_everyone_reaches_those_the_policy_allows(ruled: ControlPlane, sidecar_of) -> None:
    worker = await sidecar_of(ruled, "agent-1", long_running=True, labels={"role": "worker"})
    other = await sidecar_of(ruled, "agent-2", long_running=True, labels={"role": "worker"})
    boss = await sidecar_of(ruled, "agent-3", long_running=True)

    assert await refusal(worker, "broadcast") == ""
    assert await refusal(boss, "agent-2") == ""

    assert (await boss.next_frame()).header.sender == "agent/agent-1"
    assert (await other.next_frame()).header.sender == "agent/agent-3"


async def test_who_sends_too_much_is_told_how_long_to_wait_and_that_is_long_enough(slow: ControlPlane, sidecar_of) -> None:
    sender = await sidecar_of(slow, "agent-1", long_running=True)
    other = await sidecar_of(slow, "agent-2", long_running=True)
    assert await refusal(sender, "agent-2") == ""
    refused = await sender.committed(await sender.say("agent-2", *"0123456789"))
    assert refused is not None
    wait = refused.retry_delay.ToMicroseconds() / 1e6

    assert refused.reason == "RATE_LIMITED"
    assert 0.0 < wait <= 1 / SLOW["messages_a_second"] + 0.001
    assert await refusal(other, "agent-1") == ""
    await asyncio.sleep(wait)
    assert await sender.committed(await sender.say("agent-2", *"0123456789")) is None


async def test_a_caller_without_a_sidecar_is_told_in_retry_info(slow: ControlPlane) -> None:
    operator = slow.operator()
    request = message_service_pb2.SendMessageRequest(recipient="operator", envelope={"type": "note"})

    async def flood() -> None:
        for _ in range(100):
            await operator.messages.SendMessage(request, **operator.call)

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await flood()

    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = from_call(failed.value)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after is not None
    assert 0.0 < error.retry_after <= 1 / SLOW["messages_a_second"]

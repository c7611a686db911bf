"""Two real sidecar processes and a real control plane: topics, everyone, and questions with answers, as agents see them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from claude_conductor import errors
from claude_conductor.client.agent import AgentClient
from claude_conductor.client.conductor import Conductor
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import agent_pb2, message_pb2
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, sidecar_token
from tests.fakes.sidecar_process import ROOT, SidecarProcess, settings


class Fleet:
    """A control plane with two long-running agents; the tests are what runs behind their sockets."""

    def __init__(self, plane: ControlPlane, one: AgentClient, two: AgentClient, operator: Conductor) -> None:
        self.plane, self.one, self.two, self.operator = plane, one, two, operator


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        plane = ControlPlane(tmp_path)
        stack.push_async_callback(plane.close)
        await plane.start()
        clients: list[AgentClient] = []
        for agent in ("agent-1", "agent-2"):
            program = (sys.executable, "-m", "tests.fakes.agent_program", "serve")
            chosen = settings(tmp_path, agent_id=agent, agent_command=program, agent_environment={"PYTHONPATH": str(ROOT)})
            running = SidecarProcess(replace(chosen, token=Secret(sidecar_token(agent))))
            stack.push_async_callback(running.stop, signal.SIGKILL)
            await running.start()
            socket = tmp_path / "run" / "agents" / agent / "agent.sock"
            clients.append(await stack.enter_async_context(AgentClient.connect(str(socket))))
        operator = await stack.enter_async_context(Conductor.connect(plane.address, OPERATOR_TOKEN, environment={}))
        assert await until(lambda: _idle(operator), 30)
        yield Fleet(plane, *clients, operator)


async def until(ask: Callable[[], Awaitable[object]], seconds: float = 10.0) -> bool:
    """Return once the answer is true; TimeoutError if it never is."""
    async with asyncio.timeout(seconds):
        while not await ask():  # noqa: ASYNC110 - nothing announces it to this test
            await asyncio.sleep(0.02)
    return True


async def _idle(operator: Conductor) -> bool:
    return [agent.state for agent in await operator.agents.list(limit=10)] == [agent_pb2.AGENT_STATE_IDLE] * 2


async def _in_state(fleet: Fleet, message_id: str, state: int) -> bool:
    return (await fleet.operator.messages.get(message_id))[0].state == state


async def answer_one(agent: AgentClient, text: bytes, after: float = 0.0) -> str:
    """Answer the next question; return who asked."""
    (question,) = await agent.fetch(limit=1, wait=10)
    await asyncio.sleep(after)
    await agent.send(question.sender.removeprefix("agent/"), text, type="answer", correlation_id=question.envelope.id)
    await agent.acknowledge([question.position], mailbox=question.mailbox)
    return question.sender


async def test_agents_subscribe_publish_and_are_told_how_many(fleet: Fleet) -> None:
    assert (await fleet.one.publish("topic/news", b"nobody there")).recipients == 0
    for agent in (fleet.one, fleet.two):
        for _ in range(2):
            await agent.subscribe("news")
    await fleet.operator.messages.subscribe("news")
    assert (await fleet.one.publish("topic/news", b"hello")).recipients == 2
    (received,) = await fleet.two.fetch(wait=10)
    assert (received.sender, received.addressed_to, received.mailbox) == ("agent/agent-1", "topic/news", "agent-2")
    await fleet.two.unsubscribe("news")
    assert await fleet.two.subscriptions() == []
    assert await fleet.one.subscriptions() == ["news"]
    assert (await fleet.two.publish("broadcast", b"all")).recipients == 1
    (received,) = await fleet.one.fetch(wait=10)
    assert (received.addressed_to, received.envelope.data) == ("broadcast", b"all")
    with pytest.raises(errors.InvalidArgumentError):
        await fleet.one.subscribe("Not A Name")


async def test_a_question_between_agents_is_answered_and_nothing_else_is_disturbed(fleet: Fleet) -> None:
    await fleet.two.send("agent-1", b"before")
    answering = asyncio.create_task(answer_one(fleet.two, b"main"))
    reply = await fleet.one.request("agent-2", b"which branch?", timeout=10)
    assert (reply.sender, reply.envelope.data) == ("agent/agent-2", b"main")
    assert await answering == "agent/agent-1"
    await fleet.two.send("agent-1", b"after")
    texts: list[bytes] = []
    while len(texts) < 2:
        texts += [message.envelope.data for message in await fleet.one.fetch(wait=10)]
    assert texts == [b"before", b"after"]
    assert await until(lambda: _in_state(fleet, reply.envelope.id, message_pb2.MESSAGE_STATE_ACKED))


async def test_a_question_without_an_answer_ends_at_its_deadline_and_is_not_shown_any_more(fleet: Fleet) -> None:
    with pytest.raises(errors.DeadlineExceededError):
        await fleet.one.request("agent-2", b"anybody?", timeout=0.5)
    assert await fleet.two.fetch(wait=0.2) == []
    assert await until(lambda: fleet.operator.messages.list(states=[message_pb2.MESSAGE_STATE_EXPIRED]))
    with pytest.raises(errors.AgentNotFoundError):
        await fleet.one.request("topic/empty", b"anybody?", timeout=10)
    with pytest.raises(errors.AgentNotFoundError):
        await fleet.one.request("nobody", b"anybody?", timeout=10)


async def test_a_late_answer_comes_like_any_message(fleet: Fleet) -> None:
    answering = asyncio.create_task(answer_one(fleet.two, b"late", after=0.8))
    with pytest.raises(errors.DeadlineExceededError):
        await fleet.one.request("agent-2", b"slow?", timeout=0.5)
    await answering
    (late,) = await fleet.one.fetch(wait=10)
    assert late.envelope.data == b"late"


async def test_the_first_answer_to_a_topic_counts_and_the_others_are_messages(fleet: Fleet) -> None:
    await fleet.two.subscribe("help")
    await fleet.operator.messages.subscribe("help")
    answering = asyncio.create_task(answer_one(fleet.two, b"I can"))
    reply = await fleet.one.request("topic/help", b"who can?", timeout=10)
    assert reply.envelope.data == b"I can"
    await answering
    (asked,) = await fleet.operator.messages.fetch(wait=10)
    await fleet.operator.messages.send("agent-1", b"me too", correlation_id=asked.envelope.id)
    (other,) = await fleet.one.fetch(wait=10)
    assert other.envelope.data == b"me too"


async def test_the_operator_asks_and_is_answered(fleet: Fleet) -> None:
    await fleet.two.send("operator", b"before")
    answering = asyncio.create_task(answer_one(fleet.two, b"fine"))
    reply = await fleet.operator.messages.request("agent-2", b"how is it going?", timeout=10)
    assert (reply.sender, reply.envelope.data) == ("agent/agent-2", b"fine")
    await answering
    left = await fleet.operator.messages.fetch()
    assert [message.envelope.data for message in left] == [b"before"]
    with pytest.raises(errors.DeadlineExceededError):
        await fleet.operator.messages.request("agent-1", b"and you?", timeout=0.3)
    with pytest.raises(errors.AgentNotFoundError):
        await fleet.operator.messages.request("topic/empty", b"and you?", timeout=10)
    with pytest.raises(errors.InvalidArgumentError):
        await fleet.operator.messages.request("agent-1", b"and you?", timeout=3601)


async def test_a_question_that_comes_back_is_no_wait_for_the_deadline(fleet: Fleet) -> None:
    people = fleet.plane.operator()
    task = await people.submit(driver="command", command=["true"], agent_id="agent-1", labels={"never": "runs"})
    asking = asyncio.create_task(fleet.one.request(f"task/{task.task_id}", b"hello?", timeout=30))
    assert await until(lambda: fleet.operator.messages.list(recipient=f"task/{task.task_id}"))
    await fleet.operator.tasks.cancel(task.task_id, reason="not needed")
    async with asyncio.timeout(10):
        with pytest.raises(errors.AgentNotFoundError, match="came back"):
            await asking

"""The example agents of examples/agents, each started by a real sidecar, at work for an operator and for each other."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from claude_conductor.v1 import message_pb2, message_service_pb2, task_pb2
from tests.conformance.conftest import need
from tests.conformance.fleet import EXAMPLES, Fleet
from tests.conformance.runner_process import BUILT, ROOT

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900, func_only=True)]


def command(language: str) -> tuple[str, ...]:
    if language == "go":
        return (str(BUILT / "go/bin/agent"),)
    return shutil.which("node") or "node", str(BUILT / "node/agent.js")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def agents(fleet: Fleet) -> Fleet:
    """The fleet with an agent of each language."""
    for language, agent_id in EXAMPLES.items():
        need(language)
        await fleet.start_sidecar(agent_id, command(language))
    await fleet.until_connected(*EXAMPLES.values())
    return fleet


async def ask(fleet: Fleet, agent_id: str, text: bytes) -> str:
    """Send a question as the operator and return its id."""
    operator = fleet.plane.operator()
    said = message_pb2.Envelope(type="question", data=text)
    request = message_service_pb2.SendMessageRequest(recipient=agent_id, envelope=said)
    return (await operator.messages.SendMessage(request, **operator.call)).message_id


async def answer_to(fleet: Fleet, question: str) -> message_service_pb2.ReceivedMessage:
    """Return the answer to a question, acknowledged."""
    operator = fleet.plane.operator()
    position = 0
    while True:
        request = message_service_pb2.FetchMessagesRequest(wait={"seconds": 15}, after_position=position)
        messages = (await operator.messages.FetchMessages(request, **operator.call)).messages
        assert messages, "no answer came"
        for message in messages:
            position = message.position
            if message.envelope.correlation_id == question:
                done = message_service_pb2.AcknowledgeMessagesRequest(positions=[position])
                await operator.messages.AcknowledgeMessages(done, **operator.call)
                return message


async def ended(fleet: Fleet, task_id: str) -> task_pb2.Task:
    return await fleet.plane.operator().until(task_id, task_pb2.TASK_STATE_SUCCEEDED)


@pytest.mark.parametrize("language", EXAMPLES)
async def test_an_agent_takes_a_task_and_answers_what_it_is_asked(language: str, agents: Fleet):
    agent_id, operator = EXAMPLES[language], agents.plane.operator()
    question = await ask(agents, agent_id, "größe?".encode())
    task = await operator.submit(driver="grpc_agent", agent_id=agent_id, prompt="answer 1")
    answer = await answer_to(agents, question)
    assert (answer.sender, answer.envelope.data.decode()) == (f"agent/{agent_id}", f"{language} heard: größe?")
    result = await ended(agents, task.task_id)
    assert (result.result.summary, result.progress) == ("answered 1", "answered 1")
    request = message_service_pb2.GetMessageRequest(message_id=question)
    (record,) = (await operator.messages.GetMessage(request, **operator.call)).records
    assert record.state == message_pb2.MESSAGE_STATE_ACKED


async def test_an_agent_of_one_language_asks_one_of_the_other(agents: Fleet):
    operator = agents.plane.operator()
    serving = await operator.submit(driver="grpc_agent", agent_id=EXAMPLES["go"], prompt="answer 1")
    asking = await operator.submit(driver="grpc_agent", agent_id=EXAMPLES["node"], prompt=f"ask {EXAMPLES['go']} how are you")
    assert (await ended(agents, asking.task_id)).result.summary == "answer: go heard: how are you"
    assert (await ended(agents, serving.task_id)).result.summary == "answered 1"


async def test_an_agent_that_cannot_reach_whom_it_asks_says_so(agents: Fleet):
    operator = agents.plane.operator()
    task = await operator.submit(
        driver="grpc_agent", agent_id=EXAMPLES["node"], prompt="ask nobody anything", retry={"max_attempts": 1}
    )
    failed = await operator.until(task.task_id, task_pb2.TASK_STATE_FAILED)
    assert failed.result.failure.kind == task_pb2.FAILURE_KIND_AGENT_REPORTED
    assert "No agent with this id is known" in failed.result.failure.message


async def test_agents_live_through_the_death_of_the_control_plane(agents: Fleet):
    def processes() -> set[int]:
        sidecars = [agents.sidecars[agent_id].process for agent_id in EXAMPLES.values()]
        return {child.pid for sidecar in sidecars if sidecar for child in psutil.Process(sidecar.pid).children()}

    before = processes()
    operator = agents.plane.operator()
    task = await operator.submit(driver="grpc_agent", agent_id=EXAMPLES["go"], prompt="answer 1")
    await operator.until(task.task_id, task_pb2.TASK_STATE_RUNNING)
    await agents.act("kill the control plane")
    await agents.act("start the control plane")
    question = await ask(agents, EXAMPLES["go"], b"still there?")
    assert (await answer_to(agents, question)).envelope.data == b"go heard: still there?"
    assert processes() == before


@pytest.mark.parametrize("path", ["go/main.go", "node/agent.js"])
async def test_an_agent_is_not_more_than_60_lines(path: str):
    text = (ROOT / "examples/agents" / path).read_text()
    lines = [line for line in text.splitlines() if not re.fullmatch(r"\s*(//.*)?", line)]
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 160


async def test_nothing_of_the_examples_names_a_registry():
    for path in Path(ROOT / "examples/agents").rglob("*"):
        if path.is_file() and "gen" not in path.parts and "node_modules" not in path.parts:
            assert "resolved" not in path.read_text()

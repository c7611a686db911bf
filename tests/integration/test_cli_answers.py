"""A human at the command line: sees which task asks what, and answers it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_conductor.client import Conductor
from claude_conductor.client.sync import Conductor as SyncConductor
from claude_conductor.errors import IllegalTransitionError, TaskNotFoundError
from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.v1 import session_service_pb2 as session_pb
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, sidecar_token
from tests.fakes.sidecar import Sidecar
from tests.integration.test_cli_commands import CommandLine

HOSTILE = "Drop it? \x1b[2J\u202e\n  task: task_forged"


class House:
    """A control plane, an agent at work, and the command line beside them."""

    def __init__(self, plane: ControlPlane, agent: Sidecar, task: session_pb.TaskAssignment) -> None:
        self.plane = plane
        self.agent = agent
        self.assignment = task
        self.task_id: str = task.lease.task_id
        self._conductor = CommandLine(plane.home)

    async def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        done = await asyncio.to_thread(self._conductor, *words, code=code)
        return done.stdout, done.stderr

    async def ask(self, question_id: str = "q", **changes: object) -> None:
        given = {"text": HOSTILE, "timeout": {"seconds": 600}, **changes}
        asked = session_pb.QuestionAsked(question_id=question_id, **given)  # type: ignore[arg-type]
        assert await self.agent.committed(await self.agent.report(self.assignment.lease, asked=asked)) is None

    async def answer(self) -> tuple[str, int]:
        await self.agent.until(lambda: self.agent.closed)
        closed = self.agent.closed.pop()
        return closed.answer.text, closed.answer.option


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        plane = ControlPlane(Path(folder) / "home")
        await plane.start()
        (plane.home / "run/operator.token").write_text(OPERATOR_TOKEN)
        agent = await Sidecar(plane.address, "agent-1", sidecar_token("agent-1")).connect()
        await plane.operator().submit()
        assignment = await agent.next_assignment()
        await agent.committed(await agent.started(assignment))
        yield House(plane, agent, assignment)
        await agent.disconnect()
        await plane.close()


@pytest.fixture
def house_address(shared: ControlPlane) -> str:
    return shared.address


async def test_who_asks_is_listed_shown_and_counted_without_steering_the_terminal(house: House) -> None:
    await house.ask(options=["yes\x07", "no"])
    table, hints = await house.run("tasks", "list")
    assert "waiting for human" in table
    assert f"`conductor tasks answer {house.task_id} --option N` answers: Drop it?" in hints
    whole, _ = await house.run("tasks", "show", house.task_id)
    lines = [" ".join(line.split()) for line in whole.splitlines()]
    assert lines[1] == "state: waiting for human"
    assert "asks: | Drop it? �[2J�" in lines
    assert "| task: task_forged" in lines
    assert "options: 1 yes" in lines
    status, _ = await house.run("status")
    assert "1 waiting_for_human" in status
    assert f"waiting for you: `conductor tasks answer {house.task_id}" in " ".join(status.split())
    plain = json.loads((await house.run("status", "-o", "json"))[0])
    assert [each["task_id"] for each in plain["waiting_for_human"]] == [house.task_id]
    events, _ = await house.run("events")
    assert "task.waiting_for_human" in events


async def test_an_answer_in_words_or_by_number_reaches_the_agent(house: House) -> None:
    await house.ask()
    out, _ = await house.run("tasks", "answer", house.task_id, "leave it")
    assert (out.splitlines()[-1], "leave it (by operator)" in out) == (f"{house.task_id} running", True)
    assert await house.answer() == ("leave it", 0)
    await house.ask("q-2", options=["red", "blue"])
    shown = json.loads((await house.run("tasks", "answer", house.task_id[:20], "--option", "2", "-o", "json"))[0])
    assert (shown["question"]["answer"]["option"], shown["state"]) == (2, "TASK_STATE_RUNNING")
    assert await house.answer() == ("", 2)
    _, complaint = await house.run("tasks", "answer", house.task_id, "--option", "1", code=1)
    assert "answered already, by operator" in complaint


async def test_a_command_is_approved_as_it_is_shown_and_with_an_option_only(house: House) -> None:
    raw = "rm -rf build \x1b[1A\nrm -rf /"
    await house.ask(kind=task_pb2.QUESTION_KIND_APPROVAL, raw=raw)
    shown, _ = await house.run("tasks", "answer", house.task_id)
    assert "| rm -rf build �[1A\n" in shown
    assert "on agent-1 for " in shown
    assert " for 0 ms" not in shown  # it was started a while ago
    assert "| rm -rf /\n" in shown
    assert f"conductor tasks answer {house.task_id} --approve|--deny" in shown
    _, complaint = await house.run("tasks", "answer", house.task_id, "yes", code=2)
    assert "An approval is answered with option 1 (approve) or 2 (deny)." in complaint
    await house.run("tasks", "answer", house.task_id, "--approve", "--deny", code=2)
    out, _ = await house.run("tasks", "answer", house.task_id, "not on a Friday", "--deny")
    assert "deny: not on a Friday (by operator)" in out
    assert await house.answer() == ("not on a Friday", 2)


async def test_a_question_is_not_approved_by_mistake_nor_another_one_answered(house: House) -> None:
    await house.ask(options=["delete", "keep"])
    _, complaint = await house.run("tasks", "answer", house.task_id, "--approve", code=2)
    assert "no approval" in complaint
    _, complaint = await house.run("tasks", "answer", house.task_id, "yes", "--question", "q-0", code=1)
    assert "asks something else by now" in complaint
    assert house.agent.closed == []


@pytest.mark.parametrize("state", ["waiting_for_human", "rate_limited", "stalled"])
async def test_the_list_of_agents_says_since_when_and_why_one_waits(house: House, state: str) -> None:
    number = agent_pb2.AgentState.Value(f"AGENT_STATE_{state.upper()}")
    beat = session_pb.Heartbeat(leases=[house.assignment.lease], state=number, reason="because of \x1b[2J this")
    await house.agent.send(session_pb.ConnectRequest(heartbeat=beat))
    await house.agent.committed(await house.agent.report(house.assignment.lease, progress=session_pb.TaskProgress(text="x")))
    head, row = (await house.run("agents", "list"))[0].splitlines()
    assert head.split() == ["AGENT", "STATE", "SINCE", "TASK", "STRONGEST", "DRIVERS", "REASON"]
    assert row.split()[:2] == ["agent-1", state]
    assert "because of  [2J this" in row


def test_the_same_without_await(house_address: str) -> None:
    with SyncConductor.connect(house_address, OPERATOR_TOKEN) as conductor, pytest.raises(TaskNotFoundError):
        conductor.tasks.answer("task_00000000000000000000000000000000", "yes")


async def test_there_is_nothing_to_answer_where_nothing_was_asked(house: House) -> None:
    _, complaint = await house.run("tasks", "answer", house.task_id, "yes", code=1)
    assert "has not asked anything" in complaint


async def test_a_program_answers_once_however_often_it_repeats_itself(house: House) -> None:
    await house.ask(options=["yes"])
    async with Conductor.connect(house.plane.address, OPERATOR_TOKEN) as conductor:
        task = await conductor.tasks.answer(house.task_id, option=1, question_id="q", request_id="r")
        again = await conductor.tasks.answer(house.task_id, option=1, question_id="q", request_id="r")
        with pytest.raises(IllegalTransitionError):
            await conductor.tasks.answer(house.task_id, option=1, question_id="q", request_id="another")
    assert task.version == again.version
    assert await house.answer() == ("", 1)


async def test_a_watcher_is_told_of_the_question_and_how_to_answer(house: House) -> None:
    await house.ask()
    _, told = await house.run("tasks", "wait", house.task_id, "--timeout", "1s", code=6)
    assert "waiting for human on agent-1 for" in told
    assert f"`conductor tasks answer {house.task_id} TEXT` answers: Drop it?" in told

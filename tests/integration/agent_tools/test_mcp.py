"""The MCP server as a process, driven by the official client of the protocol, in every way it can begin a session."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from claude_conductor import errors
from claude_conductor.v1.local_service_pb2 import AskHumanResponse
from tests.fakes.local_service import MAILBOX, Door

from .conftest import COMMAND

Connect = Callable[..., AbstractAsyncContextManager[Client]]
NAMES = {"send_message", "read_inbox", "submit_task", "get_task", "list_agents", "report_progress", "ask_human"}


@pytest.fixture
def connect(environment: dict[str, str]) -> Connect:
    def client(mode: str = "auto", **options: object) -> Client:
        server = StdioServerParameters(command=sys.executable, args=[*COMMAND, "mcp"], env=environment)
        return Client(server, mode=mode, read_timeout_seconds=40, **options)

    return client


def answer(result: CallToolResult) -> dict:
    """Return what a model reads."""
    [content] = result.content
    assert not result.is_error, content.text
    return json.loads(content.text)


def complaint(result: CallToolResult) -> str:
    [content] = result.content
    assert result.is_error
    return content.text


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")])
async def test_a_client_of_either_era_finds_seven_tools_and_calls_one(connect: Connect, mode: str, version: str):
    async with connect(mode) as client:
        found = await client.list_tools()
        said = answer(await client.call_tool("list_agents", {}))

        assert client.protocol_version == version
        assert {tool.name for tool in found.tools} == NAMES
        assert said["self"]["mailbox"] == MAILBOX
        assert [(agent["agent_id"], agent.get("mailbox")) for agent in said["agents"]] == [
            ("agent-1", MAILBOX),
            ("reviewer", "reviewer"),
            ("agent-2", None),
        ]
        if mode != "2026-07-28":
            assert "read_inbox" in (client.instructions or "")
            assert client.server_info is not None
            assert client.server_info.name == "conductor"


async def test_every_schema_is_one_and_every_argument_is_described(connect: Connect):
    async with connect() as client:
        tools = (await client.list_tools()).tools
    for tool in tools:
        Draft202012Validator.check_schema(tool.input_schema)
        assert tool.input_schema["additionalProperties"] is False
        assert len(tool.description or "") > 60, tool.name
        assert all(len(each["description"]) > 10 for each in tool.input_schema["properties"].values()), tool.name


async def test_a_message_is_sent_read_in_mid_turn_and_acknowledged(connect: Connect, door: Door):
    async with connect() as client:
        sent = answer(await client.call_tool("send_message", {"to": "task/x", "text": "héllo", "reply_to": "msg_1"}))
        await door.deliver("and you?", sender="task/x", correlation_id=sent["message_id"])
        read = answer(await client.call_tool("read_inbox", {}))
        await door.until(lambda: door.acknowledged == [1])
        again = answer(await client.call_tool("read_inbox", {}))

    assert door.sent[0].envelope.data.decode() == "héllo"
    assert door.sent[0].envelope.correlation_id == "msg_1"
    [message] = read["messages"]
    assert (message["from"], message["text"], message["reply_to"]) == ("task/x", "and you?", sent["message_id"])
    assert again == {"messages": [], "more": False}


async def test_messages_are_acknowledged_later_if_the_model_wants_it_so(connect: Connect, door: Door):
    await door.deliver("one")
    async with connect() as client:
        read = answer(await client.call_tool("read_inbox", {"acknowledge": False}))
        assert "acknowledge_positions" in read["note"]
        assert door.acknowledged == []
        answer(await client.call_tool("read_inbox", {"acknowledge_positions": [read["messages"][0]["position"]]}))

    assert door.acknowledged == [1]


async def test_reading_waits_tells_of_it_and_other_calls_go_on_meanwhile(connect: Connect, door: Door):
    heard: list[str | None] = []

    async def progress(_: float, __: float | None, message: str | None) -> None:
        heard.append(message)

    async with connect() as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.call_tool("read_inbox", {"wait_seconds": 30}, progress_callback=progress))
        await door.until(lambda: door.fetches)
        answer(await client.call_tool("report_progress", {"text": "waiting for the reviewer"}))
        await door.deliver("at last")
        assert [said["text"] for said in answer(await reading)["messages"]] == ["at last"]
    assert door.progress == ["waiting for the reviewer"]


async def test_a_cancelled_reader_loses_no_message(connect: Connect, door: Door):
    async with connect() as client:
        with pytest.raises(MCPError, match=r"(?i)timed out"):
            await client.call_tool("read_inbox", {"wait_seconds": 300}, read_timeout_seconds=0.5)
        await door.deliver("one")
        await door.deliver("two")
        messages = []
        while len(messages) < 2:
            messages += answer(await client.call_tool("read_inbox", {"wait_seconds": 20}))["messages"]

    assert [said["text"] for said in messages] == ["one", "two"]


async def test_a_long_message_is_in_a_file_and_many_come_in_portions(connect: Connect, door: Door):
    await door.deliver("x" * 900_000)
    await door.deliver(b"\xff\0")
    for _ in range(10):
        await door.deliver("y" * 15_000)
    async with connect() as client:
        first = await client.call_tool("read_inbox", {})
        portion, rest = answer(first), []
        while len(rest) < 12 - len(portion["messages"]):
            rest += answer(await client.call_tool("read_inbox", {}))["messages"]

    long, binary = portion["messages"][:2]
    assert Path(long["file"]).read_text() == "x" * 900_000
    assert len(long["text"]) < 3000
    assert Path(binary["file"]).read_bytes() == b"\xff\0"
    assert "text" not in binary
    assert portion["more"] is True
    assert len(first.content[0].text) < 60_000
    assert [said["position"] for said in portion["messages"] + rest] == list(range(1, 13))


async def test_a_subtask_is_handed_out_and_its_end_waited_for(connect: Connect, door: Door):
    door.spec.workspace.git.repository = "/srv/project"
    async with connect() as client:
        stored = answer(
            await client.call_tool("submit_task", {"prompt": "write the tests", "timeout_seconds": 60, "writes": ["src/"]})
        )
        now = answer(await client.call_tool("get_task", {"task_id": stored["task_id"]}))
        door.ended.set()
        end = answer(await client.call_tool("get_task", {"task_id": stored["task_id"], "wait_seconds": 60}))
        answer(await client.call_tool("submit_task", {"command": "make test", "files": "empty", "type": "analysis"}))

    spec, shell = door.submitted[0].spec, door.submitted[1].spec
    assert (spec.driver, spec.workspace.git.repository, spec.timeout.seconds) == ("claude_code", "/srv/project", 60)
    assert (shell.driver, list(shell.command)) == ("command", ["/bin/sh", "-c", "make test"])
    assert (spec.type, shell.type) == ("", "analysis")
    assert (list(spec.writes), list(shell.writes)) == (["src/"], [])
    assert not shell.HasField("workspace")
    assert stored["mailbox"] == "task/task_child"
    assert (now["ended"], end["ended"], end["summary"]) == (False, True, "it is done")


async def test_a_parent_is_asked_while_the_inbox_is_read_and_each_gets_its_own(connect: Connect, door: Door):
    async with connect() as client, asyncio.TaskGroup() as group:
        asking = group.create_task(client.call_tool("ask_human", {"question": "left or right?", "to": "parent"}))
        await door.until(lambda: door.sent)
        reading = group.create_task(client.call_tool("read_inbox", {"wait_seconds": 30}))
        await door.deliver("left", correlation_id=door.sent[0].envelope.id)
        await door.deliver("by the way", subject="other")

        assert answer(await asking)["answer"]["text"] == "left"
        assert [said["text"] for said in answer(await reading)["messages"]] == ["by the way"]
    assert (door.sent[0].recipient, door.sent[0].envelope.type) == ("parent", "conductor.question")
    await door.until(lambda: sorted(door.acknowledged) == [1, 2])


async def test_a_human_chooses_or_approves_or_denies(connect: Connect, door: Door):
    door.human.put_nowait(AskHumanResponse(option=2, option_text="right", answered_by="operator"))
    door.human.put_nowait(AskHumanResponse(option=1, option_text="approve", approved=True))
    door.human.put_nowait(AskHumanResponse(option=2, option_text="deny", text="too dangerous"))
    async with connect() as client:
        chosen = answer(await client.call_tool("ask_human", {"question": "which?", "options": ["left", "right"]}))["answer"]
        approved = answer(await client.call_tool("ask_human", {"question": "may I?", "approve": "make clean"}))["answer"]
        denied = complaint(await client.call_tool("ask_human", {"question": "may I?", "approve": "rm -rf /"}))

    assert (chosen["text"], chosen["chosen"], chosen["by"]) == ("right", "right", "operator")
    assert approved["approved"] is True
    assert "It was denied: too dangerous" in denied
    assert [each.raw for each in door.asked] == ["", "make clean", "rm -rf /"]
    assert door.sent == []


async def test_a_question_that_is_cancelled_is_given_up(connect: Connect, door: Door):
    async with connect() as client:
        asking = asyncio.create_task(client.call_tool("ask_human", {"question": "anybody?"}))
        await door.until(lambda: door.asked)
        asking.cancel()
        await door.until(lambda: door.given_up)

    assert door.given_up == [door.asked[0].question_id]


async def test_a_question_nobody_answers_is_an_error_that_says_what_to_do(connect: Connect):
    async with connect() as client:
        said = complaint(await client.call_tool("ask_human", {"question": "anybody there?", "timeout_seconds": 1}))

    assert "No human answered within 1" in said
    assert "go on as well as you can" in said


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("send_message", {"text": "hello"}, "`to` is missing."),
        ("send_message", {"to": "parent", "text": " "}, "`text` must not be empty."),
        ("send_message", {"to": 7, "text": "hello"}, "`to` has to be of type string, not int."),
        ("send_message", {"to": "parent", "text": "hello", "urgent": True}, "There is no argument `urgent`."),
        ("read_inbox", {"wait_seconds": 9999}, "`wait_seconds` has to be from 0 to 300."),
        ("read_inbox", {"max_messages": True}, "`max_messages` has to be of type integer, not bool."),
        ("read_inbox", {"acknowledge_positions": ["1"]}, "an entry of `acknowledge_positions` has to be of type integer"),
        ("read_inbox", {"acknowledge_positions": [5000]}, "Next: acknowledge positions of messages from your own inbox only."),
        ("submit_task", {"prompt": "x", "agent": "gpt"}, "`agent` has to be one of: claude_code, command"),
        ("get_task", {"task_id": "task_nobody"}, "No task with this id is known. (task_id=task_nobody) Next: use the whole id"),
    ],
)
async def test_a_wrong_call_is_a_result_the_model_can_learn_from(connect: Connect, tool: str, arguments: dict, said: str):
    async with connect() as client:
        assert said in complaint(await client.call_tool(tool, arguments))
        assert answer(await client.call_tool("list_agents", {})), "it serves on"


async def test_an_error_of_the_control_plane_is_told_with_advice_and_a_restart_is_waited_for(connect: Connect, door: Door):
    async with connect() as client:
        door.refuse = [errors.AgentNotFoundError(agent_id="bob")]
        assert "Next: ask for the list of agents" in complaint(await client.call_tool("send_message", {"to": "bob", "text": "x"}))
        door.refuse = [errors.ControlPlaneUnavailableError()]
        answer(await client.call_tool("send_message", {"to": "parent", "text": "y"}))

    assert door.sent[-1].envelope.id == door.sent[-2].envelope.id


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_others(connect: Connect):
    async with connect("legacy") as client:
        with pytest.raises(MCPError, match="there are: send_message, read_inbox"):
            await client.session.call_tool("delete_everything", {})
        assert len((await client.list_tools()).tools) == len(NAMES)

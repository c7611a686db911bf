"""The MCP server line by line: bad input, batches, cancellation, bounds, and its end."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from claude_conductor.agent_tools.actions import Desk
from claude_conductor.agent_tools.mail import SLICE, Mail
from claude_conductor.agent_tools.mcp.protocol import Server
from claude_conductor.agent_tools.mcp.server import MOST_CALLS, McpServer
from claude_conductor.agent_tools.mcp.stdio import LONGEST_LINE
from claude_conductor.agent_tools.mcp.tools import Bench
from claude_conductor.client.agent import AgentClient
from claude_conductor.clock import SystemClock, SystemMint
from tests.fakes.local_service import Door

from .conftest import COMMAND


@dataclass
class Peer:
    """A client that writes what it likes."""

    lines: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    said: list = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def write(self, line: bytes) -> None:
        async with self.news:
            self.said.append(json.loads(line))
            self.news.notify_all()

    async def read(self) -> AsyncIterator[bytes]:
        while (line := await self.lines.get()) is not None:
            yield line

    def say(self, **message: object) -> None:
        self.lines.put_nowait(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def call(self, identity: object, tool: str, **arguments: object) -> None:
        self.say(id=identity, method="tools/call", params={"name": tool, "arguments": arguments})

    async def answer(self, identity: object) -> dict:
        def mine() -> list:
            return [each for each in self.said if isinstance(each, dict) and each.get("id") == identity]

        async with asyncio.timeout(15), self.news:
            await self.news.wait_for(mine)
        return mine()[-1]


@asynccontextmanager
async def talking(door: Door, slice_seconds: float = SLICE) -> AsyncIterator[Peer]:
    peer = Peer()
    clock = SystemClock()
    async with AgentClient(door.socket) as agent, asyncio.timeout(40):
        desk = Desk(agent, Mail(agent, clock, slice_seconds), clock, SystemMint(clock))
        server = McpServer(Server("conductor", "", "1", ""), Bench(desk, "/nonexistent"), peer.write)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(peer.read()))
            yield peer
            peer.lines.put_nowait(None)


def text(answer: dict) -> dict:
    return json.loads(answer["result"]["content"][0]["text"])


async def test_garbage_is_answered_and_what_comes_after_it_served(door: Door):
    async with talking(door) as peer:
        peer.lines.put_nowait(b"garbage")
        peer.say(id=1, method="resources/list")
        peer.say(id=2, method="tools/call", params={"name": "list_agents", "arguments": "none"})
        peer.say(method="notifications/unheard-of")
        peer.say(method="notifications/cancelled", params={"requestId": {"odd": 1}})
        peer.call(3, "report_progress", text="still here")

        assert (await peer.answer(1))["error"]["code"] == -32601
        assert (await peer.answer(2))["error"]["code"] == -32602
        assert text(await peer.answer(3)) == {"reported": True}
    assert peer.said[0] == {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "This line is not JSON."}}


async def test_a_batch_is_answered_in_one_line(door: Door):
    async with talking(door) as peer:
        batch = [
            {"jsonrpc": "2.0", "id": 1, "method": "ping"},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {
                "jsonrpc": "2.0",
                "id": 2,
                "method": "tools/call",
                "params": {"name": "report_progress", "arguments": {"text": "x"}},
            },
        ]
        peer.lines.put_nowait(json.dumps(batch).encode())
        async with asyncio.timeout(15), peer.news:
            await peer.news.wait_for(lambda: peer.said)

    assert sorted(each["id"] for each in peer.said[0]) == [1, 2]


async def test_a_cancelled_call_has_no_answer_and_its_id_can_be_used_again(door: Door):
    async with talking(door) as peer:
        peer.call(1, "read_inbox", wait_seconds=300)
        await door.until(lambda: door.fetches)
        peer.say(method="notifications/cancelled", params={"requestId": 1, "reason": "changed my mind"})
        await door.deliver("one")
        peer.call(2, "read_inbox", wait_seconds=20)
        assert [said["text"] for said in text(await peer.answer(2))["messages"]] == ["one"]
        peer.call(1, "read_inbox")
        assert text(await peer.answer(1))["messages"] == []


async def test_messages_of_an_answer_that_crossed_its_cancellation_are_shown_again(door: Door):
    await door.deliver("one")
    await door.deliver("two")
    async with talking(door) as peer:
        peer.call(1, "read_inbox")
        await peer.answer(1)
        await door.until(lambda: door.acknowledged == [1, 2])
        peer.say(method="notifications/cancelled", params={"requestId": 1})
        peer.call(2, "read_inbox")
        assert [said["text"] for said in text(await peer.answer(2))["messages"]] == ["one", "two"]


async def test_messages_that_cannot_be_kept_in_a_file_are_not_lost(door: Door):
    await door.deliver("x" * 20_000)
    async with talking(door) as peer:
        peer.call(1, "read_inbox")
        failed = (await peer.answer(1))["result"]
        assert failed["isError"]
        assert "make room" in failed["content"][0]["text"]
        peer.call(2, "read_inbox")
        assert (await peer.answer(2))["result"]["isError"], "it was put back, and is tried again"
        assert door.acknowledged == []


async def test_too_many_calls_at_once_are_refused_one_by_one(door: Door):
    async with talking(door) as peer:
        for number in range(MOST_CALLS + 1):
            peer.call(number, "read_inbox", wait_seconds=300)
        peer.call(0, "read_inbox")
        assert (await peer.answer(MOST_CALLS))["error"]["code"] == -32000
        assert "under way" in (await peer.answer(0))["error"]["message"]
        for number in range(MOST_CALLS):
            peer.say(method="notifications/cancelled", params={"requestId": number})


async def test_a_long_wait_tells_of_itself_if_it_was_asked_to(door: Door):
    async with talking(door, slice_seconds=0.05) as peer:
        params = {"name": "read_inbox", "arguments": {"wait_seconds": 1}, "_meta": {"progressToken": "t"}}
        peer.say(id=1, method="tools/call", params=params)
        await peer.answer(1)

    told = [each["params"] for each in peer.said if each.get("method") == "notifications/progress"]
    assert len(told) > 2
    assert {(each["progressToken"], each["total"]) for each in told} == {("t", 1.0)}
    assert [each["progress"] for each in told] == sorted(each["progress"] for each in told)


async def test_a_line_that_is_too_long_is_skipped_and_the_end_of_input_ends_the_process(door: Door, environment: dict[str, str]):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *COMMAND, "mcp"), env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    long = b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"x" * (LONGEST_LINE + 1000) + b'"}\n'
    ping = b'{"jsonrpc": "2.0", "id": 2, "method": "ping"}'
    wait = {"name": "read_inbox", "arguments": {"wait_seconds": 300}}
    waiting = json.dumps({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": wait}).encode() + b"\n"
    try:
        async with asyncio.timeout(40):
            out, _ = await process.communicate(waiting + long + ping)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    refused, answered = (json.loads(line) for line in out.splitlines())
    assert (refused["error"]["code"], answered) == (-32700, {"jsonrpc": "2.0", "id": 2, "result": {}})
    assert process.returncode == 0

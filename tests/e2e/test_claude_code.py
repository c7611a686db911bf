"""The real Claude Code in strict isolation, against a stub of its provider: own tools, and the key stays outside."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent_sidecar.drivers.claude_code import find_claude_code
from agent_sidecar.drivers.finder import HostFinder
from claude_conductor.errors import MissingProgramError
from claude_conductor.v1 import agent_pb2, message_pb2, task_pb2
from claude_conductor.v1.task_pb2 import GitWorkspace, TaskSpec, WorkspaceSource
from tests.e2e.conftest import Installation
from tests.fakes import messages_api as api

pytestmark = pytest.mark.timeout(180)

KEY = "sk-canary-of-the-sidecar"
INSTALLED = Path(__file__).parents[2] / ".cache" / "claude-code" / "node_modules" / ".bin" / "claude"


@pytest.fixture(scope="module")
def claude() -> Path:
    """The real program, or a visible skip that says what is missing."""
    named = os.environ.get("CONDUCTOR_CLAUDE_BINARY")
    try:
        return find_claude_code(HostFinder(""), Path(named) if named else INSTALLED, os.uname().machine)
    except MissingProgramError:
        pytest.skip("Claude Code is not installed: tools/install_claude_code.sh could not reach npm, or was not run")


@contextmanager
def provider(script: api.Script) -> Iterator[api.MessagesApi]:
    """Serve the stub from a loop in a thread for the length of the block."""
    stub = api.MessagesApi(script)
    ready: Future[asyncio.Event] = Future()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with stub.serve():
            end = asyncio.Event()
            ready.set_result(end)
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="messages api")
    thread.start()
    end = ready.result(10)
    try:
        yield stub
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()


def test_four_claude_codes_write_a_file_each_and_the_changes_come_back_as_patches(
    installation: Installation, repository: Path, claude: Path
):
    script = api.use_then_say("Write", {"file_path": "/workspace/written.txt", "content": "by claude\n"}, "I wrote the file.")
    with provider(script) as stub:
        installation.environment["ANTHROPIC_API_KEY"] = KEY
        installation.start(
            num_agents=4, claude_binary=str(claude), provider={"base_url": stub.url}, container_config={"cpu_limit": "1.0"}
        )
        workspace = WorkspaceSource(git=GitWorkspace(repository=str(repository)))
        with installation.client() as client:
            submitted = [
                client.tasks.submit(TaskSpec(driver="claude_code", prompt="write a file", workspace=workspace)) for _ in range(4)
            ]
            tasks = [client.tasks.wait(task.task_id, timeout=90) for task in submitted]
            patches = [client.artefacts.read(task.result.patch_artefact_id).decode() for task in tasks]
        keys = {seen.key for seen in stub.seen if seen.method == "POST"}

    assert [task.state for task in tasks] == [task_pb2.TASK_STATE_SUCCEEDED] * 4, [task.reason for task in tasks]
    assert {task.agent_id for task in tasks} == {"agent-1", "agent-2", "agent-3", "agent-4"}
    assert all("+by claude" in patch and "written.txt" in patch for patch in patches)
    assert all(task.result.summary == "I wrote the file." for task in tasks)
    assert all(task.result.usage.output_tokens >= 2 * api.OUTPUT_TOKENS for task in tasks)
    assert all(task.result.usage.turns >= 2 for task in tasks)
    assert keys == {KEY}


def test_the_key_is_neither_in_the_agents_environment_nor_in_any_file_of_ours(installation: Installation, claude: Path):
    command = {"command": "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'"}
    seen_inside = []

    def script(body: dict) -> api.Reply:
        for message in body.get("messages", []):
            for part in message["content"] if isinstance(message.get("content"), list) else []:
                if part.get("type") == "tool_result":
                    seen_inside.append(str(part.get("content")))
                    return api.Say("done")
        return api.Use("Bash", command) if body.get("tools") else api.Say("title")

    with provider(script) as stub:
        installation.environment["ANTHROPIC_API_KEY"] = KEY
        installation.start(
            num_agents=1, claude_binary=str(claude), provider={"base_url": stub.url}, container_config={"cpu_limit": "1.0"}
        )
        with installation.client() as client:
            task = client.tasks.submit(TaskSpec(driver="claude_code", prompt="show the environment"))
            task = client.tasks.wait(task.task_id, timeout=60)
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task.reason

    assert any("ANTHROPIC_BASE_URL=http://127.0.0.1" in text for text in seen_inside), "the control: its environment was shown"
    assert KEY not in "".join(seen_inside)
    holders = [path for path in installation.home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holders == []


def tool_results(body: dict) -> list[dict]:
    """Return what the tools of ours said so far, in order; what is no JSON object is left out."""
    parts = [part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]]
    texts = [block["text"] for part in parts if part.get("type") == "tool_result" for block in _blocks(part.get("content"))]
    return [json.loads(text) for text in texts if text.startswith("{")]


def _blocks(content: object) -> list[dict]:
    return [each for each in content if each.get("type") == "text"] if isinstance(content, list) else []


def uses(body: dict) -> int:
    """Return how many tools were used so far."""
    parts = [part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]]
    return sum(1 for part in parts if part.get("type") == "tool_result")


def the_one_who_listens(body: dict) -> api.Reply:
    """Work, look into the inbox in the middle of it, answer, work on."""
    match uses(body):
        case 0:
            return api.Use("Write", {"file_path": "/workspace/begun.txt", "content": "begun\n"}, "I begin.")
        case 1:
            return api.Use("mcp__conductor__read_inbox", {"wait_seconds": 60})
        case 2:
            [message] = tool_results(body)[-1]["messages"]
            reply = {"to": message["from"], "text": f"twice {message['text']}", "reply_to": message["id"]}
            return api.Use("mcp__conductor__send_message", reply)
        case 3:
            return api.Use("Write", {"file_path": "/workspace/done.txt", "content": "done\n"})
        case _:
            return api.Say("I was interrupted and have answered.")


def the_one_who_writes(body: dict, mailbox: str) -> api.Reply:
    """Write to the other one and wait for the answer."""
    match uses(body):
        case 0:
            return api.Use("mcp__conductor__send_message", {"to": mailbox, "text": "twenty-one", "type": "sum"})
        case 1:
            return api.Use("mcp__conductor__read_inbox", {"wait_seconds": 60})
        case _:
            sent, read = tool_results(body)
            [message] = read["messages"]
            assert message["reply_to"] == sent["message_id"]
            return api.Say(f"{sent['message_id']} was answered by {message['from']}: {message['text']}")


def test_two_claude_codes_exchange_messages_in_mid_turn(installation: Installation, repository: Path, claude: Path):
    mailboxes: list[str] = []
    tools: set[str] = set()

    def script(body: dict) -> api.Reply:
        if not body.get("tools"):
            return api.Say("title")
        tools.update(tool["name"] for tool in body["tools"])
        return (
            the_one_who_listens(body)
            if "listen to others" in json.dumps(body["messages"])
            else the_one_who_writes(body, *mailboxes)
        )

    with provider(script) as stub:
        installation.environment["ANTHROPIC_API_KEY"] = KEY
        installation.start(
            num_agents=2, claude_binary=str(claude), provider={"base_url": stub.url}, container_config={"cpu_limit": "1.0"}
        )
        workspace = WorkspaceSource(git=GitWorkspace(repository=str(repository)))
        with installation.client() as client:
            listens = client.tasks.submit(TaskSpec(driver="claude_code", prompt="listen to others", workspace=workspace))
            mailboxes.append(f"task/{listens.task_id}")
            writes = client.tasks.submit(TaskSpec(driver="claude_code", prompt="write to the other one", workspace=workspace))
            ended = [client.tasks.wait(task.task_id, timeout=90) for task in (listens, writes)]
            patch = client.artefacts.read(ended[0].result.patch_artefact_id).decode()
            message_id, _, said = ended[1].result.summary.partition(" was answered by ")
            [record] = client.messages.get(message_id)
            records = client.messages.list(recipient=f"task/{writes.task_id}")

    assert [task.state for task in ended] == [task_pb2.TASK_STATE_SUCCEEDED] * 2, [task.reason for task in ended]
    assert [task.result.isolation.effective_level for task in ended] == [agent_pb2.ISOLATION_LEVEL_STRICT] * 2
    assert said == f"task/{listens.task_id}: twice twenty-one"
    assert ended[0].result.summary == "I was interrupted and have answered."
    assert "begun.txt" in patch
    assert "done.txt" in patch, "it worked on after it had answered"
    assert ".conductor" not in patch
    assert record.state == message_pb2.MESSAGE_STATE_ACKED
    assert (record.sender, record.recipient) == (f"task/{writes.task_id}", f"task/{listens.task_id}")
    assert message_pb2.MESSAGE_STATE_SEEN in [hop.state for hop in record.hops]
    assert [each.state for each in records] == [message_pb2.MESSAGE_STATE_ACKED]
    assert "mcp__conductor__ask_human" in tools


def test_without_the_setting_claude_code_has_no_tools_of_ours(installation: Installation, claude: Path):
    tools: set[str] = set()

    def script(body: dict) -> api.Reply:
        tools.update(tool["name"] for tool in body.get("tools", []))
        return api.Say("done")

    with provider(script) as stub:
        installation.environment["ANTHROPIC_API_KEY"] = KEY
        installation.start(num_agents=1, claude_binary=str(claude), provider={"base_url": stub.url}, agent={"mcp_tools": False})
        with installation.client() as client:
            task = client.tasks.submit(TaskSpec(driver="claude_code", prompt="what can you do?"))
            task = client.tasks.wait(task.task_id, timeout=60)

    assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task.reason
    assert "Write" in tools, "the control: its own tools were seen"
    assert not [name for name in tools if "conductor" in name]


def test_claude_code_ends_when_its_budget_is_used_up_and_says_so(installation: Installation, repository: Path, claude: Path):
    written = []

    def script(body: dict) -> api.Reply:
        if not body.get("tools"):
            return api.Say("title")
        written.append(f"/workspace/{len(written)}.txt")
        return api.Use("Write", {"file_path": written[-1], "content": "more\n"}, "And on.")

    with provider(script) as stub:
        installation.environment["ANTHROPIC_API_KEY"] = KEY
        installation.start(
            num_agents=1, claude_binary=str(claude), provider={"base_url": stub.url}, container_config={"cpu_limit": "1.0"}
        )
        workspace = WorkspaceSource(git=GitWorkspace(repository=str(repository)))
        with installation.client() as client:
            spec = TaskSpec(driver="claude_code", prompt="write for ever", workspace=workspace, budget={"turns": 4})
            task = client.tasks.wait(client.tasks.submit(spec).task_id, timeout=90)
            patch = client.artefacts.read(task.result.patch_artefact_id).decode()
            unpriced = TaskSpec(
                driver="claude_code", prompt="write for ever", budget={"cost_usd": 5.0}, model="claude-unheard-of"
            )
            refused = client.tasks.wait(client.tasks.submit(unpriced).task_id, timeout=90)
        asked = [seen for seen in stub.seen if seen.method == "POST"]

    assert (task.state, task.result.failure.kind) == (task_pb2.TASK_STATE_FAILED, task_pb2.FAILURE_KIND_BUDGET), task
    assert len(task.attempts) == 1
    assert "Raise it with --budget-turns" in task.reason
    assert len(asked) == task.budget.used.turns == 4
    assert "0.txt" in patch, "what it did until then is kept"
    assert (refused.result.failure.kind, len(refused.attempts)) == (task_pb2.FAILURE_KIND_BUDGET, 1)
    assert "no price of the model claude-unheard-of is known" in refused.reason
    assert {seen.key for seen in asked} == {KEY}
    holders = [path for path in installation.home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holders == []
    assert KEY not in str(task) + str(refused)

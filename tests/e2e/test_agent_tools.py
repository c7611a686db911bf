"""`conductor-agent` as a plain shell script uses it, in a strict sandbox: messages, a subtask, a question to the operator."""

from __future__ import annotations

import json

import pytest

from claude_conductor.client.sync import Conductor
from claude_conductor.v1 import agent_pb2, message_pb2, task_pb2
from claude_conductor.v1.agent_pb2 import IsolationSpec
from claude_conductor.v1.task_pb2 import TaskSpec
from tests.e2e.conftest import Installation, eventually

pytestmark = pytest.mark.timeout(120)


def shell(script: str, **spec: object) -> TaskSpec:
    return TaskSpec(driver="command", command=["/bin/sh", "-ec", script], **spec)  # type: ignore[arg-type]


def run(client: Conductor, script: str) -> task_pb2.Task:
    task = client.tasks.submit(shell(script))
    return client.tasks.wait(task.task_id, timeout=60)


def mail(client: Conductor, kind: str) -> list:
    """Return the operator's messages of this type."""
    return [message for message in client.messages.fetch(wait=0.2) if message.envelope.type == kind]


def test_a_shell_script_reads_answers_and_hands_out_work(installation: Installation):
    installation.start(num_agents=2)
    script = r"""
        conductor-agent self --json
        conductor-agent progress 'looking for mail'
        conductor-agent send operator 'ready' --type ready >/dev/null
        conductor-agent inbox --wait 30s --json > inbox.json
        cat inbox.json
        position=$(sed -E 's/.*"position": ([0-9]+).*/\1/' inbox.json)
        id=$(sed -E 's/.*"id": "(msg_[0-9a-f]+)".*/\1/' inbox.json)
        printf 'got %s' "$position" | conductor-agent send operator - --type reply --reply-to "$id" >/dev/null
        conductor-agent ack "$position" >/dev/null
        conductor-agent peers --json
        child=$(conductor-agent submit 'say it' --cmd 'echo "the child of $CONDUCTOR_TASK_ID"; conductor-agent send parent done')
        conductor-agent task "$child" --wait 40s --json
        conductor-agent inbox --wait 20s --ack
    """
    with installation.client() as client:
        task = client.tasks.submit(shell(script))
        eventually(lambda: mail(client, "ready"), 40, "the agent's first message")
        told = client.messages.send(f"task/{task.task_id}", b"how are you?", type="question")
        task = client.tasks.wait(task.task_id, timeout=60)
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED, (task.reason, task.result.summary)
        [reply] = mail(client, "reply")
        lines = task.result.summary.splitlines()
        oneself, inbox, peers, child = (json.loads(line) for line in lines[:4])

        assert (reply.sender, reply.envelope.correlation_id) == (f"task/{task.task_id}", told.message_id)
        assert reply.envelope.data == f"got {inbox[0]['position']}".encode()
        eventually(
            lambda: client.messages.get(told.message_id)[0].state == message_pb2.MESSAGE_STATE_ACKED, 10, "the acknowledgement"
        )
    assert oneself["mailbox"] == f"task/{task.task_id}"
    assert oneself["isolation"] == "strict"
    assert [said["text"] for said in inbox] == ["how are you?"]
    assert [each["agent_id"] for each in peers] == ["agent-1", "agent-2"]
    assert [each["agent_id"] for each in peers if each.get("you")] == [oneself["agent_id"]]
    assert (child["state"], child["ended"]) == ("succeeded", True)
    assert child["summary"].startswith("the child of task_")
    assert "  done" in lines[4:], "the child's own message"
    assert task.progress == "looking for mail"


def test_the_operator_answers_a_question_and_other_messages_are_not_lost(installation: Installation):
    installation.start(num_agents=1)
    with installation.client() as client:
        script = """
            conductor-agent ask 'left or right?' --timeout 40s --option left --option right
            conductor-agent inbox --wait 20s
            echo 'rm -rf build' | conductor-agent ask 'May I?' --approve - --timeout 40s || echo "no: $?"
        """
        task = client.tasks.submit(shell(script))
        asks = task_pb2.TASK_STATE_WAITING_FOR_HUMAN
        eventually(lambda: client.tasks.get(task.task_id).state == asks, 40, "the question")
        shown = agent_pb2.AGENT_STATE_WAITING_FOR_HUMAN
        eventually(lambda: client.agents.get("agent-1").state == shown, 10, "the agent's state")
        client.messages.send(f"task/{task.task_id}", b"by the way")
        installation.run("tasks", "answer", task.task_id, "--option", "1")
        eventually(lambda: client.tasks.get(task.task_id).question.raw, 40, "the approval")
        assert "| rm -rf build" in installation.run("tasks", "answer", task.task_id).stdout
        installation.run("tasks", "answer", task.task_id, "not on a Friday", "--deny")
        task = client.tasks.wait(task.task_id, timeout=60)

    assert task.state == task_pb2.TASK_STATE_SUCCEEDED, (task.reason, task.result.summary)
    said = task.result.summary.splitlines()
    assert said[0] == "left"
    assert "  by the way" in said
    assert said[-1] == "no: 4"


def test_errors_are_one_line_and_an_exit_code_of_their_kind(installation: Installation):
    installation.start(num_agents=1)
    script = r"""
        try() { "$@" >out 2>err && code=0 || code=$?; echo "$code $(wc -l <err) $(cat err)"; }
        try conductor-agent send nobody-there hello
        try conductor-agent send parent hello
        try conductor-agent send operator
        try conductor-agent task task_00000000000000000000000000000000
        try conductor-agent ask --timeout 0.1 'is anybody there?'
        try conductor-agent ack 99
        try conductor-agent submit --agent scripted 'exit 0' --after task_00000000000000000000000000000000
        CONDUCTOR_SOCKET=/nowhere try conductor-agent self
        try conductor-agent mcp </etc/passwd
    """
    with installation.client() as client:
        task = run(client, script)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED, (task.reason, task.result.summary)
    said = [line.split(" ", 2) for line in task.result.summary.splitlines()]
    assert [code for code, _, _ in said] == ["3", "3", "2", "3", "6", "3", "3", "5", "2"], said
    assert {lines for _, lines, _ in said} == {"1"}, said
    assert all("Next: " in text and "Traceback" not in text for _, _, text in said), said


def test_a_long_running_agent_and_one_at_the_minimal_level_find_it_too(installation: Installation):
    hello = 'conductor-agent send operator "$(conductor-agent self --json)" --type hello; exec sleep 1000'
    resident = {"id": "resident", "driver": "grpc_agent", "command": ["/bin/sh", "-c", hello]}
    installation.start(num_agents=1, agents=[resident])
    with installation.client() as client:
        minimal = IsolationSpec(level=agent_pb2.ISOLATION_LEVEL_MINIMAL)
        task = client.tasks.submit(shell("conductor-agent self --json", isolation=minimal))
        task = client.tasks.wait(task.task_id, timeout=60)
        eventually(lambda: mail(client, "hello"), 40, "the long-running agent's message")
        [said] = mail(client, "hello")

    assert task.state == task_pb2.TASK_STATE_SUCCEEDED, (task.reason, task.result.summary)
    assert json.loads(task.result.summary.splitlines()[0])["isolation"] == "minimal"
    assert said.sender == "agent/resident"
    assert json.loads(said.envelope.data)["mailbox"] == "resident"

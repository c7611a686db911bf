"""The coordinator of the demo: a long-running gRPC agent that hands out parts of its task and puts the answers together."""

from __future__ import annotations

import json
import sys
import time

from claude_conductor.client.sync import AgentClient
from claude_conductor.errors import DeadlineExceededError
from claude_conductor.v1.message_pb2 import Envelope
from claude_conductor.v1.task_pb2 import (
    TASK_STATE_SUCCEEDED,
    FailureKind,
    Task,
    TaskFailure,
    TaskSpec,
    WorkspaceSource,
)

TYPES = {"review": "code_review", "refactor": "refactor", "tests": "test_generation"}
PATIENCE = {"command": 50.0, "claude_code": 600.0}
"""Seconds for all parts; a model takes its time."""


def subtask(part: str, order: dict[str, str], workspace: WorkspaceSource) -> TaskSpec:
    """Describe one part as a task of its own, on its own clone of what the coordinator was given."""
    if part == "refactor" and order.get("driver") == "claude_code":
        prompt = (
            "Modernise this code for Python 3.11 without changing what it does. The examples in the docstrings must still hold."
        )
        return TaskSpec(type=TYPES[part], driver="claude_code", prompt=prompt, workspace=workspace)
    command = [sys.executable, "-m", "examples.demo.worker", part]
    environment = {"PYTHONPATH": order["source"], "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {name: value for name, value in order.items() if name.startswith("DEMO_")}
    return TaskSpec(
        type=TYPES[part], driver="command", prompt=part, command=command, environment=environment, workspace=workspace
    )


def coordinate(agent: AgentClient, task_id: str, spec: TaskSpec) -> str:
    """Hand out the parts, answer each report as it comes, and return the combined report."""
    order = json.loads(spec.prompt)
    children = {
        part: agent.submit_subtask(subtask(part, order, spec.workspace), request_id=f"{task_id}-{part}").task_id for part in TYPES
    }
    waiting = {part for part in TYPES if not (part == "refactor" and order.get("driver") == "claude_code")}
    reports: dict[str, dict[str, object]] = {}
    deadline = time.monotonic() + PATIENCE[order.get("driver", "command")]
    while waiting and time.monotonic() < deadline:
        for message in agent.fetch(wait=5):
            report = json.loads(message.envelope.data)
            reports[report["part"]] = report
            waiting.discard(report["part"])
            thanks = f"thank you, {report['part']} is in the report"
            reply = Envelope(type="demo.reply", data=thanks.encode(), correlation_id=message.envelope.id)
            agent.send(message.sender, reply)
            agent.acknowledge([message.position], mailbox=message.mailbox)
            agent.progress(f"{len(reports)} of {len(TYPES)} reports are in")
    ended = {part: wait_for(agent, child, deadline) for part, child in children.items()}
    return json.dumps({"reports": reports, "tasks": {part: summary(task) for part, task in ended.items()}})


def wait_for(agent: AgentClient, task_id: str, deadline: float) -> Task:
    """Return the task once it has ended, or as it is at the deadline."""
    while True:
        task = agent.get_subtask(task_id, wait=max(0.1, min(20.0, deadline - time.monotonic())))
        if task.HasField("end_time") or time.monotonic() >= deadline:
            return task


def summary(task: Task) -> dict[str, object]:
    """Return what the report says of a task."""
    words = task.result.summary.splitlines()[0] if task.result.summary else task.reason
    return {
        "task_id": task.task_id,
        "succeeded": task.state == TASK_STATE_SUCCEEDED,
        "words": words,
        "agent": task.agent_id,
    }


def main() -> None:
    """Serve tasks until the sandbox ends."""
    with AgentClient() as agent:
        while True:
            try:
                order = agent.next_task(wait=60)
            except DeadlineExceededError:
                continue
            try:
                agent.complete_task(order.task_id, summary=coordinate(agent, order.task_id, order.spec))
            except (ValueError, KeyError) as error:
                failure = TaskFailure(
                    kind=FailureKind.FAILURE_KIND_AGENT_REPORTED, message=f"the order cannot be read: {error!r}"
                )
                agent.complete_task(order.task_id, failure=failure)


if __name__ == "__main__":
    main()

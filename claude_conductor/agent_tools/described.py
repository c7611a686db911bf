"""How do messages, tasks and agents look to an agent? As plain values, for the command and for the MCP server."""

from __future__ import annotations

import base64
from typing import Final, TypeAlias

from claude_conductor.client.tasks import FINAL
from claude_conductor.v1 import agent_pb2, local_service_pb2, message_service_pb2, task_pb2

Plain: TypeAlias = dict[str, object]

LONG_RUNNING: Final = "grpc_agent"
"""The kind of agent that has a mailbox under its own id."""


def message(received: message_service_pb2.ReceivedMessage) -> Plain:
    """Return a message; its payload as `text`, or as `data_base64` where it is none."""
    envelope = received.envelope
    said: Plain = {
        "position": received.position,
        "id": envelope.id,
        "from": received.sender,
        "type": envelope.type,
        "subject": envelope.subject,
        "reply_to": envelope.correlation_id,
        "attempt": received.attempt if received.attempt > 1 else 0,
        "content_type": "" if envelope.data_content_type.startswith("text/plain") else envelope.data_content_type,
        "mailbox": received.mailbox,
        "addressed_to": received.addressed_to,
    }
    text = as_text(envelope.data)
    payload: Plain = {"text": text} if text is not None else {"data_base64": base64.b64encode(envelope.data).decode("ascii")}
    return {**_known(said), **payload}


def as_text(data: bytes) -> str | None:
    """Return the payload as text; None where it is none."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def task(found: task_pb2.Task) -> Plain:
    """Return a task: where it stands, and what came of it."""
    result = found.result
    patch: Plain = {}
    if found.HasField("result") and result.patch.files:
        patch = {"files": result.patch.files, "added": result.patch.added_lines, "removed": result.patch.removed_lines}
    ended = found.state in FINAL
    described: Plain = {
        "task_id": found.task_id,
        "state": state(task_pb2.TaskState.Name(found.state), "TASK_STATE_"),
        "ended": ended,
        "reason": found.reason,
        "kind": found.spec.driver,
        "agent_id": found.agent_id,
        "progress": found.progress,
        "summary": result.summary,
        "failure": result.failure.message,
        "patch": patch,
        "warnings": list(result.warnings),
        "mailbox": "" if ended else f"task/{found.task_id}",
    }
    return {**_known(described), "ended": ended}


def answer(given: local_service_pb2.AskHumanResponse) -> Plain:
    """Return what a human answered; `text` is never empty: it is the chosen option where there are no words."""
    described: Plain = {
        "text": given.text or given.option_text,
        "chosen": given.option_text,
        "option": given.option,
        "approved": given.approved,
        "by": given.answered_by,
        "question_id": given.question_id,
    }
    return _known(described)


def agent(found: agent_pb2.Agent, own_id: str = "") -> Plain:
    """Return an agent, with the mailbox it can be written to now if it has one."""
    mailbox = f"task/{found.task_id}" if found.task_id else ""
    described: Plain = {
        "agent_id": found.agent_id,
        "you": found.agent_id == own_id,
        "state": state(agent_pb2.AgentState.Name(found.state), "AGENT_STATE_"),
        "mailbox": found.agent_id if LONG_RUNNING in found.drivers else mailbox,
        "task_id": found.task_id,
        "kinds": list(found.drivers),
        "labels": dict(found.labels),
    }
    return _known(described)


def oneself(found: local_service_pb2.GetSelfResponse) -> Plain:
    """Return who the agent is and what it works on."""
    level = agent_pb2.IsolationLevel.Name(found.isolation.effective_level)
    described: Plain = {
        "agent_id": found.agent_id,
        "tenant": found.tenant_id,
        "task_id": found.task_id,
        "mailbox": found.mailbox,
        "parent_task_id": found.parent_task_id,
        "isolation": state(level, "ISOLATION_LEVEL_") if found.HasField("isolation") else "",
        "degraded": list(found.isolation.degradations),
    }
    return _known(described)


def state(name: str, prefix: str) -> str:
    """Return the word of an enum's value."""
    return name.removeprefix(prefix).lower()


def _known(described: Plain) -> Plain:
    """Leave out what is empty, so that a reader sees what there is."""
    return {name: value for name, value in described.items() if value not in ("", 0, False, [], {})}

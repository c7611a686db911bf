"""What can an agent do about an error? The advice of the hierarchy is for people at a command line outside of the sandbox."""

from __future__ import annotations

from typing import Final

from claude_conductor.errors import ConductorError

_ADVICE: Final = {
    "AGENT_NOT_FOUND": "ask for the list of agents: it names the mailbox of each that has one; `parent` and `operator` "
    "always work for a task with a parent and for the human",
    "TASK_NOT_FOUND": "use the whole id, `task_` and 32 characters, as the answer to the submission had it",
    "MESSAGE_NOT_FOUND": "acknowledge positions of messages from your own inbox only",
    "AGENT_OFFLINE": "send it without asking for immediate delivery, and it waits in the mailbox",
    "PAYLOAD_TOO_LARGE": "send a summary, or several smaller messages",
    "MAILBOX_FULL": "wait some seconds and send again: the recipient has to read first",
    "PERMISSION_DENIED": "this is not allowed to agents; ask the operator if you need it",
    "CONTROL_PLANE_UNAVAILABLE": "it is being restarted: wait some seconds and try again",
    "STORE_UNAVAILABLE": "wait some seconds and try again; if that does not help tell the operator",
    "DEADLINE_EXCEEDED": "try again, with a longer wait where there is one",
    "IDEMPOTENCY_CONFLICT": "leave the id out, or use a new one",
    "INTERNAL": "try again once; if that does not help go on without it and mention it in your result",
}


def next_step(error: ConductorError) -> str:
    """Return what the agent can do: what the error itself says, else what its reason means inside a sandbox."""
    if error.next_step != type(error).advice:
        return error.next_step
    return _ADVICE.get(error.reason, error.next_step)


def one_line(error: ConductorError) -> str:
    """Return the error with its facts and what to do, in one line."""
    return " ".join(f"{error} Next: {next_step(error)}.".split())

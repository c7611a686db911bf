"""What does each tool do? Arguments that fit its schema in, text for the model out; an error is a text too."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from claude_conductor.agent_tools import actions, described
from claude_conductor.agent_tools.actions import Desk, Inquiry, Letter, Order
from claude_conductor.agent_tools.described import Plain
from claude_conductor.agent_tools.mail import Heard
from claude_conductor.agent_tools.mcp import shape
from claude_conductor.agent_tools.mcp.catalogue import TOOLS
from claude_conductor.errors import InvalidArgumentError, StoreUnavailableError
from claude_conductor.v1.message_service_pb2 import ReceivedMessage

LONGEST_TEXT: Final = 16_000
"""Characters of one message that a model is shown; the whole of a longer one is in a file."""
LONGEST_ANSWER: Final = 45_000
"""Characters of messages in one answer: clients refuse answers that are much longer, and their messages would be lost."""
PARENT: Final = "parent"
_SHOWN_OF_LONG: Final = 2_000
_ABOUT_EACH: Final = 300
"""Characters about a message: who, when, what kind."""

Arguments: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to."""

    value: object
    taken: list[ReceivedMessage] = field(default_factory=list)
    """Messages in it: to be held again if nobody got the answer."""
    acknowledge: bool = False
    """Acknowledge them once the answer is written."""

    @property
    def text(self) -> str:
        """The answer as the model reads it."""
        return json.dumps(self.value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the tools work with."""

    desk: Desk
    folder: str
    """For messages that are too long to show."""


Tool: TypeAlias = Callable[[Bench, Arguments, Heard], Awaitable[Outcome]]


async def call(bench: Bench, name: str, arguments: Arguments, heard: Heard) -> Outcome:
    """Call a tool.

    Args:
        bench: What it works with.
        name: Of a tool of `CALLS`.
        arguments: As they came.
        heard: Told during long waits.

    Raises:
        ConductorError: It did not work; says what to do.
    """
    return await CALLS[name](bench, shape.fitted(_SCHEMAS[name], arguments), heard)


async def _send_message(bench: Bench, given: Arguments, heard: Heard) -> Outcome:
    del heard
    letter = Letter(given["to"], given["text"].encode(), type=given["type"], reply_to=given["reply_to"], subject=given["subject"])
    return Outcome(await actions.send(bench.desk, letter))


async def _read_inbox(bench: Bench, given: Arguments, heard: Heard) -> Outcome:
    desk = bench.desk
    if given["acknowledge_positions"]:
        await desk.agent.acknowledge(given["acknowledge_positions"])
    room = _Room(LONGEST_ANSWER)
    messages = await desk.mail.take(given["max_messages"], float(given["wait_seconds"]), room.takes, heard)
    try:
        shown = [await _shown(bench, each) for each in messages]
    except BaseException:
        desk.mail.put_back(messages)
        raise
    value: Plain = {"messages": shown, "more": bool(desk.mail.held) or len(messages) == given["max_messages"]}
    if messages and not given["acknowledge"]:
        value["note"] = "not acknowledged yet: call read_inbox with acknowledge_positions once you have dealt with them"
    return Outcome(value, messages, acknowledge=given["acknowledge"])


async def _submit_task(bench: Bench, given: Arguments, heard: Heard) -> Outcome:
    del heard
    order = Order(
        prompt=given["prompt"],
        driver=given["agent"],
        shell_line=given["command"],
        same_files=given["files"] == "same",
        agent_id=given["agent_id"],
        depends_on=tuple(given["depends_on"]),
        model=given["model"],
        timeout=float(given["timeout_seconds"]) or None,
        type=given["type"],
        writes=tuple(given["writes"]),
    )
    return Outcome(await actions.submit(bench.desk, order))


async def _get_task(bench: Bench, given: Arguments, heard: Heard) -> Outcome:
    return Outcome(await actions.task(bench.desk, given["task_id"], float(given["wait_seconds"]), heard))


async def _list_agents(bench: Bench, given: Arguments, heard: Heard) -> Outcome:
    del given, heard
    return Outcome({"self": await actions.oneself(bench.desk), "agents": await actions.peers(bench.desk)})


async def _report_progress(bench: Bench, given: Arguments, heard: Heard) -> Outcome:
    del heard
    await actions.progress(bench.desk, given["text"])
    return Outcome({"reported": True})


async def _ask_human(bench: Bench, given: Arguments, heard: Heard) -> Outcome:
    seconds = float(given["timeout_seconds"])
    if given["to"] == PARENT:
        if given["options"] or given["approve"]:
            raise InvalidArgumentError("Options and approvals are for the human.", next_step="leave out `to`")
        reply = await actions.ask(bench.desk, PARENT, given["question"], seconds, heard)
        return Outcome({"answer": await _shown(bench, reply)}, [reply])
    inquiry = Inquiry(given["question"], seconds, tuple(given["options"]), given["approve"] or None)
    return Outcome({"answer": await actions.ask_human(bench.desk, inquiry, heard)})


class _Room:
    """How many more characters of messages an answer can take."""

    def __init__(self, characters: int) -> None:
        self._left = characters - LONGEST_TEXT - _ABOUT_EACH

    def takes(self, message: ReceivedMessage) -> bool:
        """Tell whether one more message may be shown, and count it."""
        self._left -= min(len(message.envelope.data), LONGEST_TEXT) + _ABOUT_EACH
        return self._left >= 0


async def _shown(bench: Bench, message: ReceivedMessage) -> Plain:
    """Return a message as a model reads it: what is too long or no text goes into a file of the agent's."""
    said = described.message(message)
    text = said.get("text")
    if isinstance(text, str) and len(text) <= LONGEST_TEXT:
        return said
    said.pop("data_base64", None)
    try:
        said["file"] = await asyncio.to_thread(_kept, bench.folder, message.envelope.data)
    except OSError as cause:
        raise StoreUnavailableError(
            "A message is too long to show and cannot be kept in a file.",
            next_step=f"make room in {bench.folder} and read again",
            cause=cause.strerror,
        ) from cause
    said["bytes"] = len(message.envelope.data)
    if isinstance(text, str):
        said["text"] = f"{text[:_SHOWN_OF_LONG]} [cut off here: the whole text is in `file`]"
    return said


def _kept(folder: str, data: bytes) -> str:
    descriptor, path = tempfile.mkstemp(prefix="message-", dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path


CALLS: Final[Mapping[str, Tool]] = {
    "send_message": _send_message,
    "read_inbox": _read_inbox,
    "submit_task": _submit_task,
    "get_task": _get_task,
    "list_agents": _list_agents,
    "report_progress": _report_progress,
    "ask_human": _ask_human,
}
_SCHEMAS: Final = {tool["name"]: tool["inputSchema"] for tool in TOOLS}

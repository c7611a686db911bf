"""What does each verb of the command do, and what does it show?"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from claude_conductor.agent_tools import actions, described, text
from claude_conductor.agent_tools.actions import Desk, Inquiry, Letter, Order
from claude_conductor.agent_tools.arguments import PROGRAM
from claude_conductor.agent_tools.claims import Claim
from claude_conductor.agent_tools.mail import Mail
from claude_conductor.client.agent import AgentClient
from claude_conductor.clock import SystemClock, SystemMint
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1.message_service_pb2 import ReceivedMessage


@dataclass(frozen=True, slots=True)
class Shown:
    """What a verb prints."""

    text: str
    value: object
    """The same as plain values, for --json."""
    taken: list[ReceivedMessage] = field(default_factory=list)
    """Messages to acknowledge once they are printed."""
    claim: Claim | None = None
    """What to let go of once it is printed."""


@asynccontextmanager
async def open_desk(socket: str) -> AsyncIterator[Desk]:
    """Connect to the agent's socket for the length of the block."""
    clock = SystemClock()
    async with AgentClient.connect(socket) as agent:
        yield Desk(agent, Mail(agent, clock), clock, SystemMint(clock))


async def _send(desk: Desk, given: argparse.Namespace) -> Shown:
    letter = Letter(
        recipient=given.recipient,
        data=given.text,
        type=given.type,
        reply_to=given.reply_to,
        subject=given.subject,
        content_type=given.content_type,
        message_id=given.id,
        ephemeral=given.ephemeral,
        time_to_live=given.ttl,
    )
    sent = await actions.send(desk, letter)
    return Shown(str(sent["message_id"]), sent)


async def _inbox(desk: Desk, given: argparse.Namespace) -> Shown:
    claim = Claim.make(Path(tempfile.gettempdir()), given.socket, desk.mint("fetch_"))
    messages = await desk.mail.take(given.limit, given.wait, lambda _: True, request_id=claim.request_id)
    while desk.mail.held:  # what comes again comes whole
        messages += await desk.mail.take(desk.mail.held, 0.0, lambda _: True)
    if claim.perhaps_printed and messages:
        sys.stderr.write(f"{PROGRAM}: these messages may have been shown before: the command that printed them was killed\n")
    return Shown(
        _messages(messages) or "no messages",
        [described.message(each) for each in messages],
        taken=messages if given.ack else [],
        claim=claim,
    )


async def _ack(desk: Desk, given: argparse.Namespace) -> Shown:
    await desk.agent.acknowledge(given.positions, mailbox=given.mailbox)
    numbers = ", ".join(map(str, given.positions))
    return Shown(f"acknowledged {numbers}", {"acknowledged": given.positions})


async def _ask(desk: Desk, given: argparse.Namespace) -> Shown:
    if given.to:
        if given.option or given.approve is not None or given.id:
            raise InvalidArgumentError("Options, approvals and ids are for humans.", next_step="leave out --to")
        reply = await actions.ask(desk, given.to, _utf8(given.text), given.timeout)
        return Shown(text.printable(reply.envelope.data.decode("utf-8", "replace")), described.message(reply))
    approve = None if given.approve is None else _utf8(given.approve)
    answer = await actions.ask_human(desk, Inquiry(_utf8(given.text), given.timeout, tuple(given.option), approve, given.id))
    words = dict.fromkeys(str(answer[name]) for name in ("chosen", "text") if name in answer)
    return Shown(text.printable("\n".join(words)), answer)


async def _topics(desk: Desk, given: argparse.Namespace) -> Shown:
    for topic in given.subscribe:
        await desk.agent.subscribe(topic)
    for topic in given.unsubscribe:
        await desk.agent.unsubscribe(topic)
    found = await desk.agent.subscriptions()
    return Shown("\n".join(found) or "no topics", found)


async def _submit(desk: Desk, given: argparse.Namespace) -> Shown:
    order = Order(
        prompt=_utf8(given.text),
        driver=given.agent.strip().lower().replace("-", "_"),
        shell_line=given.cmd,
        same_files=not given.empty,
        agent_id=given.on,
        depends_on=tuple(given.after),
        model=given.model,
        timeout=given.timeout,
        request_id=given.id,
        type=given.type,
        writes=tuple(path for paths in given.writes for path in paths.split(",")),
    )
    stored = await actions.submit(desk, order)
    if given.wait:
        stored = await actions.task(desk, str(stored["task_id"]), given.wait)
        return Shown(text.facts(stored), stored)
    return Shown(str(stored["task_id"]), stored)


async def _task(desk: Desk, given: argparse.Namespace) -> Shown:
    found = await actions.task(desk, given.task_id, given.wait)
    return Shown(text.facts(found), found)


async def _peers(desk: Desk, given: argparse.Namespace) -> Shown:
    del given
    found = await actions.peers(desk)
    return Shown(text.agents(found), found)


async def _self(desk: Desk, given: argparse.Namespace) -> Shown:
    del given
    found = await actions.oneself(desk)
    return Shown(text.facts(found), found)


async def _progress(desk: Desk, given: argparse.Namespace) -> Shown:
    await actions.progress(desk, _utf8(given.text))
    return Shown("", {})


def _messages(messages: list[ReceivedMessage]) -> str:
    return "\n".join(text.message(described.message(each)) for each in messages)


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise InvalidArgumentError("This is not valid UTF-8 text.", next_step="convert it first") from cause


Verb: TypeAlias = Callable[[Desk, argparse.Namespace], Awaitable[Shown]]

VERBS: Final[Mapping[str, Verb]] = {
    "send": _send,
    "inbox": _inbox,
    "ack": _ack,
    "ask": _ask,
    "topics": _topics,
    "submit": _submit,
    "task": _task,
    "peers": _peers,
    "self": _self,
    "progress": _progress,
}
"""Every verb but `mcp`, which prints nothing."""

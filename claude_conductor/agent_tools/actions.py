"""What can an agent do? Each verb once, for the command and for the MCP server: plain values in, plain values out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from claude_conductor.agent_tools import described
from claude_conductor.agent_tools.described import Plain
from claude_conductor.agent_tools.mail import SLICE, Heard, Mail, nobody_listens
from claude_conductor.client.agent import AgentClient
from claude_conductor.client.tasks import duration
from claude_conductor.clock import Clock
from claude_conductor.errors import ControlPlaneUnavailableError, DeadlineExceededError, PermissionDeniedError
from claude_conductor.ids import Mint
from claude_conductor.units import format_duration
from claude_conductor.v1 import message_pb2, task_pb2
from claude_conductor.v1.local_service_pb2 import AskHumanResponse
from claude_conductor.v1.message_service_pb2 import ReceivedMessage

QUESTION: Final = "conductor.question"
"""Type of a message that asks somebody else than the human in charge."""
PROGRESS_BYTES: Final = 1024
SHELL: Final = "/bin/sh"
PATIENCE: Final = 30.0
"""Seconds for which a call with an idempotency key is repeated while the control plane is being restarted."""
_PAUSE: Final = 0.5
_LEAST_WAIT: Final = 0.1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Desk:
    """What the verbs work with."""

    agent: AgentClient
    mail: Mail
    clock: Clock
    mint: Mint


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to send."""

    recipient: str
    data: bytes
    type: str = "status_update"
    reply_to: str = ""
    subject: str = ""
    content_type: str = "text/plain; charset=utf-8"
    message_id: str = ""
    """Idempotency key; empty: a new one."""
    ephemeral: bool = False
    time_to_live: float | None = None
    """Seconds; None: 24 h."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question to a human."""

    question: str
    timeout: float
    """Seconds."""
    options: tuple[str, ...] = ()
    approve: str | None = None
    """A command or diff whose approval is asked for; None: it is an ordinary question."""
    question_id: str = ""
    """Idempotency key; empty: a new one."""


@dataclass(frozen=True, slots=True)
class Order:
    """A task to submit."""

    prompt: str
    driver: str = ""
    """Empty: `command` if there is a shell line, else the kind of the present task."""
    shell_line: str = ""
    """For `command`; `{prompt}` in it is the prompt, as one word."""
    same_files: bool = True
    """Begin with the files the present task began with; else with an empty folder."""
    agent_id: str = ""
    depends_on: tuple[str, ...] = ()
    model: str = ""
    timeout: float | None = None
    """Seconds; None: the default."""
    request_id: str = ""
    """Idempotency key; empty: a new one."""
    type: str = ""
    """Sort of task, such as `code_review`: its template surrounds the prompt. Empty: the prompt alone."""
    writes: tuple[str, ...] = ()
    """Paths of the repository it may change; tasks whose paths overlap do not run together. Empty: nothing is declared."""


async def send(desk: Desk, letter: Letter) -> Plain:
    """Send a message; it is stored when this returns. While the control plane is restarted it is repeated, and accepted once.

    Raises:
        ConductorError: It was refused, or there was no answer.
    """
    message_id = letter.message_id or desk.mint("msg_")
    envelope = message_pb2.Envelope(
        id=message_id,
        type=letter.type,
        subject=letter.subject,
        correlation_id=letter.reply_to,
        data_content_type=letter.content_type,
        data=letter.data,
    )
    sent = await _patiently(
        desk.clock,
        lambda: desk.agent.publish(letter.recipient, envelope, ephemeral=letter.ephemeral, time_to_live=letter.time_to_live),
    )
    return {"message_id": message_id, "to": letter.recipient, "recipients": sent.recipients}


async def ask(desk: Desk, recipient: str, question: str, timeout: float, heard: Heard = nobody_listens) -> ReceivedMessage:
    """Ask somebody and return the answer, which is acknowledged; other messages stay where they are.

    Raises:
        DeadlineExceededError: There was none in time; it comes as an ordinary message if it comes later.
        AgentNotFoundError: There is nobody to answer, or who was asked has ended.
        ConductorError: It could not be asked.
    """
    content_type = "text/plain; charset=utf-8"
    envelope = message_pb2.Envelope(id=desk.mint("msg_"), type=QUESTION, data_content_type=content_type, data=question.encode())
    began = desk.clock.monotonic()

    async def once() -> ReceivedMessage:
        left = max(_LEAST_WAIT, began + timeout - desk.clock.monotonic())
        return await desk.agent.request(recipient, envelope, timeout=left)

    try:
        return await _wait(desk.clock, once, timeout, heard)
    except DeadlineExceededError as cause:
        raise DeadlineExceededError(
            f"There was no answer within {format_duration(timeout)}.",
            next_step="go on as well as you can; should the answer still come, your inbox has it, as a reply to the question",
            question=envelope.id,
        ) from cause


async def ask_human(desk: Desk, inquiry: Inquiry, heard: Heard = nobody_listens) -> Plain:
    """Ask a human about the present task and return the answer. Cancelling withdraws the question.

    Raises:
        DeadlineExceededError: There was none in time.
        PermissionDeniedError: What was to be approved was denied.
        ConductorError: It could not be asked.
    """
    question_id = inquiry.question_id or desk.mint("question_")
    began = desk.clock.monotonic()

    async def once() -> AskHumanResponse:
        left = max(_LEAST_WAIT, began + inquiry.timeout - desk.clock.monotonic())
        return await desk.agent.ask_human(
            inquiry.question, options=inquiry.options, approve=inquiry.approve, timeout=left, question_id=question_id
        )

    try:
        answer = await _wait(desk.clock, once, inquiry.timeout, heard)
    except DeadlineExceededError as cause:
        raise DeadlineExceededError(
            f"No human answered within {format_duration(inquiry.timeout)}.",
            next_step="go on as well as you can without the answer, and do not do what needs it",
            question=question_id,
        ) from cause
    if inquiry.approve is not None and not answer.approved:
        raise PermissionDeniedError(
            f"It was denied{': ' if answer.text else ''}{answer.text}.",
            next_step="do not do it, nor the same in another way; go on without it",
            question=question_id,
        )
    return described.answer(answer)


async def _wait(clock: Clock, once: Callable[[], Awaitable[_T]], timeout: float, heard: Heard) -> _T:
    """Make a call that waits for somebody, and tell of it every now and then."""
    began = clock.monotonic()
    asking = asyncio.create_task(_patiently(clock, once), name="wait for an answer")
    try:
        while not (await asyncio.wait({asking}, timeout=SLICE))[0]:
            await heard(clock.monotonic() - began, timeout, "waiting for an answer")
        return asking.result()
    finally:
        asking.cancel()


async def acknowledge(desk: Desk, messages: list[ReceivedMessage]) -> None:
    """Acknowledge messages; those that do not wait for it are left out.

    Raises:
        ConductorError: The sidecar cannot be told.
    """
    boxes: dict[str, list[int]] = {}
    for message in messages:
        if message.position:
            boxes.setdefault(message.mailbox, []).append(message.position)
    for mailbox, positions in boxes.items():
        await desk.agent.acknowledge(positions, mailbox=mailbox)


async def submit(desk: Desk, order: Order) -> Plain:
    """Submit a task as a child of the present one.

    Raises:
        ConductorError: It was refused, or there was no answer.
    """
    driver = order.driver or ("command" if order.shell_line else "")
    spec = task_pb2.TaskSpec(
        type=order.type,
        prompt=order.prompt,
        driver=driver,
        command=_shell(order.shell_line),
        agent_id=order.agent_id,
        depends_on=order.depends_on,
        model=order.model,
        timeout=None if order.timeout is None else duration(order.timeout),
        writes=order.writes,
    )
    if order.same_files or not driver:
        present = await desk.agent.get_subtask((await desk.agent.get_self()).task_id)
        spec.driver = driver or present.spec.driver
        if order.same_files and present.spec.HasField("workspace"):
            spec.workspace.CopyFrom(present.spec.workspace)
    request_id = order.request_id or desk.mint("request_")
    stored = await _patiently(desk.clock, lambda: desk.agent.submit_subtask(spec, request_id=request_id))
    return described.task(stored)


async def task(desk: Desk, task_id: str, wait: float, heard: Heard = nobody_listens) -> Plain:
    """Return a task, after waiting for its end for up to `wait` seconds.

    Raises:
        ConductorError: There is none, or there was no answer.
    """
    began = desk.clock.monotonic()
    while True:
        waited = desk.clock.monotonic() - began
        found = described.task(await desk.agent.get_subtask(task_id, wait=max(0.0, min(SLICE, wait - waited))))
        waited = desk.clock.monotonic() - began
        if found["ended"] or waited >= wait:
            return found
        await heard(waited, wait, f"the task is {found['state']}")


async def peers(desk: Desk) -> list[Plain]:
    """Return the agents of the set, this one marked.

    Raises:
        ConductorError: There was no answer.
    """
    own = await desk.agent.get_self()
    return [described.agent(each, own.agent_id) for each in await desk.agent.peers()]


async def oneself(desk: Desk) -> Plain:
    """Return who this agent is.

    Raises:
        ConductorError: There was no answer.
    """
    return described.oneself(await desk.agent.get_self())


async def progress(desk: Desk, text: str) -> None:
    """Show one line of progress; what is longer than such a line may be is cut off.

    Raises:
        ConductorError: There was no answer.
    """
    line = " ".join(text.split()).encode()[:PROGRESS_BYTES].decode("utf-8", "ignore")
    await desk.agent.progress(line)


def _shell(line: str) -> list[str]:
    if "{prompt}" in line:
        return [SHELL, "-c", line.replace("{prompt}", '"$1"'), "sh", "{prompt}"]
    return [SHELL, "-c", line] if line else []


async def _patiently(clock: Clock, call: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat a call that has an idempotency key while the control plane is away."""
    end = clock.monotonic() + PATIENCE
    while True:
        try:
            return await call()
        except ControlPlaneUnavailableError:
            if clock.monotonic() + _PAUSE > end:
                raise
        await asyncio.sleep(_PAUSE)

"""`conductor messages`: send to agents, read your own mailbox, see where messages stand."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from claude_conductor.cli import commands, complaint, output, session
from claude_conductor.cli.completion import agent_ids, any_message_ids, recipients
from claude_conductor.cli.completion import topics as topic_names
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.clock import SystemClock, SystemMint
from claude_conductor.errors import ControlPlaneUnavailableError, InvalidArgumentError
from claude_conductor.telemetry.traces import open_tracer, span
from claude_conductor.units import parse_duration
from claude_conductor.v1 import event_pb2, message_pb2, message_service_pb2

app = commands.app("Send and read messages.", group=True)

_PAUSE = 0.5
LAST = (1 << 63) - 1
"""The largest position there can be."""


def state(record: message_pb2.MessageRecord) -> str:
    """Return where a message stands, in words."""
    return output.word(message_pb2.MessageState, record.state, "MESSAGE_STATE_").replace("_", " ")


COLUMNS = (
    Column("MESSAGE", lambda record: record.message_id, least=output.ID_WIDTH),
    Column("FROM", lambda record: record.sender),
    Column("TO", lambda record: record.recipient),
    Column("TYPE", lambda record: record.type),
    Column("STATE", state, least=9),
    Column("AGE", lambda record: output.age(record.accept_time)),
    Column("ATTEMPTS", lambda record: str(record.attempts), wide=True),
    Column("EXPIRES", lambda record: output.moment(record.expire_time), wide=True),
    Column("REASON", lambda record: record.reason, wide=True),
    Column("LAST ERROR", lambda record: record.last_error, wide=True),
)

RECEIVED = (
    Column("POSITION", lambda message: str(message.position)),
    Column("MESSAGE", lambda message: message.envelope.id, least=output.ID_WIDTH),
    Column("FROM", lambda message: message.sender),
    Column("TYPE", lambda message: message.envelope.type),
    Column("TEXT", lambda message: _text(message.envelope)),
)


@app.command()
def send(
    recipient: Annotated[
        str, typer.Argument(autocompletion=recipients, help="Id of an agent, task/TASK_ID, topic/NAME or broadcast.")
    ],
    text: Annotated[str, typer.Argument(help="What to say; `-` reads it from standard input.")] = "",
    file: Annotated[Path | None, typer.Option("--file", help="Say what is in this file.")] = None,
    type_: Annotated[str, typer.Option("--type", help="What kind of message it is.")] = "status_update",
    reply_to: Annotated[str, typer.Option("--reply-to", help="Id of the message this one answers; it is acknowledged.")] = "",
    content_type: Annotated[str, typer.Option("--content-type", help="Media type.")] = "text/plain; charset=utf-8",
    message_id: Annotated[str, typer.Option("--id", help="Idempotency key: the same id is accepted once.")] = "",
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Only if the recipient is there now.")] = False,  # noqa: FBT002
    ttl: Annotated[str, typer.Option("--ttl", help="How long it waits for its recipient.", show_default="24h")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Send a message; returns once it is stored."""
    data = _payload(text, file, "send")
    seconds = parse_duration(ttl) if ttl else None

    async def run() -> None:
        tracer = open_tracer("conductor", os.environ)
        try:
            with span(tracer, "conductor messages send", parent=os.environ.get("TRACEPARENT", ""), kind="producer") as current:
                async with session.connect() as conductor:
                    sent = await conductor.messages.send(
                        recipient,
                        data,
                        type=type_,
                        message_id=message_id,
                        content_type=content_type,
                        correlation_id=reply_to,
                        ephemeral=ephemeral,
                        time_to_live=seconds,
                        traceparent=current.traceparent,
                    )
        finally:
            tracer.shutdown()
        again = " (it was there already)" if sent.duplicate else ""
        plain = {"message_id": sent.message_id, "duplicate": sent.duplicate, "recipients": sent.recipients}
        facts = [("accepted", sent.message_id + again)]
        if sent.recipients != 1 or recipient.startswith("topic/") or recipient == "broadcast":
            facts.append(("recipients", str(sent.recipients)))
        output.show_one(form, plain, lambda: facts, sent.message_id)
        if not sent.recipients:
            complaint.note("  next: nobody got it; `conductor messages topics` shows who is subscribed to what")

    session.run(run())


@app.command()
def ask(
    recipient: Annotated[
        str, typer.Argument(autocompletion=recipients, help="Id of an agent, task/TASK_ID, topic/NAME or broadcast.")
    ],
    text: Annotated[str, typer.Argument(help="What to ask; `-` reads it from standard input.")] = "",
    file: Annotated[Path | None, typer.Option("--file", help="Ask what is in this file.")] = None,
    type_: Annotated[str, typer.Option("--type", help="What kind of message it is.")] = "question",
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait, 1h at most.")] = "30s",
    form: FormatOption = Format.TABLE,
) -> None:
    """Send a message and show its answer; without one in time it is not delivered any more.

    It goes on waiting over a restart of the control plane.
    """
    data, seconds = _payload(text, file, "ask"), parse_duration(timeout)

    async def run() -> None:
        async with session.connect() as conductor:
            await conductor.admin.status()  # that nobody is there is told at once
            message_id, end, left = SystemMint(SystemClock())("msg_"), time.monotonic() + seconds, seconds
            while True:
                try:
                    reply = await conductor.messages.request(recipient, data, type=type_, timeout=left, message_id=message_id)
                    break
                except ControlPlaneUnavailableError:
                    left = end - time.monotonic() - _PAUSE
                    if left <= 0:
                        raise
                await asyncio.sleep(_PAUSE)
        if form is Format.TABLE:
            output.facts([("from", reply.sender), ("message", reply.envelope.id), ("text", _text(reply.envelope))])
        else:
            output.show_rows(form, [reply], RECEIVED, lambda message: str(message.envelope.id), "")

    session.run(run())


@app.command("list")
def list_(
    recipient: Annotated[str, typer.Option("--to", autocompletion=agent_ids, help="Only this mailbox.")] = "",
    state: Annotated[list[str] | None, typer.Option("--state", help="Only these states, such as accepted.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """List messages and where they stand, newest first."""
    states = [_state(word) for word in state or []]

    async def run() -> None:
        async with session.connect() as conductor:
            records = await conductor.messages.list(limit=limit, recipient=recipient, states=states)
        output.show_rows(form, records, COLUMNS, lambda record: record.message_id, "no messages")

    session.run(run())


@app.command()
def show(
    message: Annotated[str, typer.Argument(autocompletion=any_message_ids, parser=whole, help="Id of a message.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one message with its way so far; `conductor trace` shows how long each step took."""

    async def run() -> None:
        async with session.connect() as conductor:
            records = await conductor.messages.get(message)
        if records or form is not Format.TABLE:
            show_records(form, records)
        else:
            complaint.note("  it was accepted, and there was nobody to get it")

    session.run(run())


def show_records(form: Format, records: Sequence[message_pb2.MessageRecord]) -> None:
    """Show everything about a message, for each of its recipients."""
    if form is not Format.TABLE:
        output.show_rows(form, records, COLUMNS, lambda record: record.message_id, "")
        return
    for number, record in enumerate(records):
        if number:
            output.say("")
        output.facts(_lines(record))


@app.command()
def fetch(
    wait: Annotated[str, typer.Option("--wait", help="How long to wait for the first, 60s at most.")] = "0",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most this many.")] = 100,
    ack: Annotated[bool, typer.Option("--ack", help="Acknowledge what is shown: it is not shown again.")] = False,  # noqa: FBT002
    form: FormatOption = Format.TABLE,
) -> None:
    """Read your own mailbox; without --ack everything stays in it."""
    seconds = parse_duration(wait)
    if seconds > 60:
        raise InvalidArgumentError("It waits 60 s at most.", next_step="correct --wait", wait=wait)

    async def run() -> None:
        async with session.connect() as conductor:
            received = await conductor.messages.fetch(limit=limit, wait=seconds)
            output.show_rows(form, received, RECEIVED, lambda message: str(message.envelope.id), "no messages")
            if ack and received:
                await conductor.messages.acknowledge([message.position for message in received])
            elif received:
                complaint.note("  next: `conductor messages fetch --ack` takes them out of the mailbox")

    session.run(run())


TOPICS = (Column("TOPIC", lambda each: each.topic), Column("MAILBOX", lambda each: each.mailbox))
Topic = Annotated[str, typer.Argument(autocompletion=topic_names, help="Name of a topic, or broadcast for messages to everyone.")]


@app.command()
def subscribe(topic: Topic) -> None:
    """Get what is sent to a topic into your own mailbox."""

    async def run() -> None:
        async with session.connect() as conductor:
            await conductor.messages.subscribe(topic)
        complaint.note(f"  subscribed to {topic}; `conductor messages fetch` reads your mailbox")

    session.run(run())


@app.command()
def unsubscribe(
    topic: Topic, mailbox: Annotated[str, typer.Option("--of", help="End it for this mailbox, not your own.")] = ""
) -> None:
    """End a subscription; what came already stays."""

    async def run() -> None:
        async with session.connect() as conductor:
            await conductor.messages.unsubscribe(topic, mailbox=mailbox)

    session.run(run())


@app.command()
def topics(
    topic: Annotated[str, typer.Argument(autocompletion=topic_names, help="Only this one.")] = "",
    mailbox: Annotated[str, typer.Option("--of", autocompletion=agent_ids, help="Only this mailbox.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """List which mailboxes are subscribed to which topics."""

    async def run() -> None:
        async with session.connect() as conductor:
            found = await conductor.messages.subscriptions(topic=topic, mailbox=mailbox)
        output.show_rows(form, found, TOPICS, lambda each: each.topic, "no subscriptions")

    session.run(run())


@app.command()
def watch(
    after: Annotated[
        int | None,
        typer.Option("--after", min=0, max=LAST, help="Begin behind this position.", show_default="the oldest"),
    ] = None,
    ack: Annotated[bool, typer.Option("--ack", help="Acknowledge what is shown: it is not shown again.")] = False,  # noqa: FBT002
    form: FormatOption = Format.TABLE,
) -> None:
    """Read your own mailbox as messages come, until Ctrl-C (exit code 130); goes on over a restart of the control plane.

    JSON is one object a line.
    """

    async def run() -> None:
        async with session.connect() as conductor:
            await conductor.admin.status()  # a stream waits for a control plane that is away; its beginning should not
            async with aclosing(conductor.messages.receive(after=after, on_gap=_missed)) as stream:
                async for message in stream:
                    _show_received(message, form)
                    if ack and message.position:
                        await conductor.messages.acknowledge([message.position])

    session.run(run())


def _missed(gap: event_pb2.Gap) -> None:
    first = getattr(gap, "from")
    complaint.warn(
        f"positions {first} to {gap.to} cannot be shown: they were acknowledged, expired or died meanwhile,"
        " or the mailbox began anew"
    )


def _show_received(message: message_service_pb2.ReceivedMessage, form: Format) -> None:
    if form in (Format.JSON, Format.YAML):
        output.say(output.json_line(message))
    elif form is Format.NAME:
        output.say(message.envelope.id)
    else:
        about = f"{message.position or '-'}  {message.sender}  {message.envelope.type}"
        long = f"  {message.envelope.id}  attempt {message.attempt}" if form is Format.WIDE else ""
        output.say(output.printable(f"{about}{long}  {_text(message.envelope)}"))
    sys.stdout.flush()


def whole(text: str) -> str:
    """Return an id without the ellipsis of a table it was copied from; a beginning of it is not enough.

    Raises:
        InvalidArgumentError: It was cut.
    """
    if text.endswith("…"):
        raise InvalidArgumentError(
            "A message is named by its whole id, and this one was cut by a table.",
            next_step="`-o name` or `-o wide` in a pipe prints whole ids",
            message_id=text,
        )
    return text


def _payload(text: str, file: Path | None, verb: str) -> bytes:
    if bool(text) == (file is not None):
        raise InvalidArgumentError("Either a text or --file is needed.", next_step=f'`conductor messages {verb} AGENT "hello"`')
    if file is None:
        return sys.stdin.buffer.read() if text == "-" else text.encode()
    try:
        return file.read_bytes()
    except OSError as cause:
        raise InvalidArgumentError(
            "The file cannot be read.", next_step="correct --file", file=file, cause=cause.strerror
        ) from cause


def _lines(record: message_pb2.MessageRecord) -> list[tuple[str, str]]:
    hops = [
        f"{output.word(message_pb2.MessageState, hop.state, 'MESSAGE_STATE_')} {output.moment(hop.time)}" for hop in record.hops
    ]
    return [
        ("message", record.message_id),
        ("from", record.sender),
        ("to", record.recipient),
        ("type", record.type),
        ("state", state(record)),
        ("reason", output.printable(record.reason)),
        ("last error", output.printable(record.last_error)),
        ("attempts", str(record.attempts or "")),
        ("sent again", f"{record.redrives} times" if record.redrives > 1 else "once" * record.redrives),
        ("way", "\n".join(hops)),
        ("expires", output.moment(record.expire_time)),
        ("answers", record.envelope.correlation_id),
        ("text", _text(record.envelope)),
    ]


def _text(envelope: message_pb2.Envelope) -> str:
    if not envelope.data_content_type.startswith(("text/", "application/json")) and envelope.data_content_type:
        return f"{len(envelope.data)} bytes of {envelope.data_content_type}"
    return output.printable_lines(envelope.data.decode("utf-8", "replace"))


def _state(word: str) -> message_pb2.MessageState.ValueType:
    name = f"MESSAGE_STATE_{word.strip().upper().replace(' ', '_').replace('-', '_')}"
    if name not in message_pb2.MessageState.keys() or name.endswith("UNSPECIFIED"):  # noqa: SIM118 - an enum wrapper, not a mapping
        known = [each.removeprefix("MESSAGE_STATE_").lower() for each in message_pb2.MessageState.keys()[1:]]
        raise InvalidArgumentError("There is no such state.", next_step=f"there are: {', '.join(known)}", state=word)
    return message_pb2.MessageState.Value(name)

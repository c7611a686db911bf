"""`conductor trace`: which steps did a message or a task make, when, and how long did each take?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from claude_conductor.cli import commands, messages, output
from claude_conductor.cli import session as connection
from claude_conductor.cli.completion import traceable_ids
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.client import Conductor
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.units import format_duration
from claude_conductor.v1 import event_pb2, message_pb2

app = commands.app("Show every step of a message or a task, with times.")

QUIET = 0.5
"""Seconds without another event after which the history of a task counts as read."""

COLUMNS = (
    Column("TIME", lambda step: _clock(step["time"]), least=23),
    Column("AFTER", lambda step: _after(step["after_seconds"]), least=8),
    Column("STEP", lambda step: str(step["step"]), least=10),
    Column("WHAT", lambda step: str(step["what"])),
)


@app.command()
def trace(
    thing: Annotated[
        str, typer.Argument(metavar="MESSAGE|TASK", autocompletion=traceable_ids, help="Id of a message or of a task.")
    ],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show every step of a message, for each recipient, or of a task: when it happened, and how long after the step before."""
    if thing.startswith("msg_"):
        connection.run(_message(messages.whole(thing), form))
    elif thing.startswith("task_"):
        connection.run(_task(thing.rstrip("…"), form))
    else:
        raise InvalidArgumentError(
            "Messages and tasks can be traced: an id begins with `msg_` or `task_`.",
            next_step="`conductor messages list` and `conductor tasks list` show ids",
            id=thing,
        )


async def _message(message_id: str, form: Format) -> None:
    async with connection.connect() as conductor:
        records = await conductor.messages.get(message_id)
    traces = [_of_record(record) for record in records]
    if form is not Format.TABLE and form is not Format.WIDE:
        output.show_rows(form, traces, (), lambda each: str(each["message_id"]), "")
        return
    for number, (record, each) in enumerate(zip(records, traces, strict=True)):
        if number:
            output.say("")
        output.facts(_about(record))
        output.table(each["steps"], COLUMNS)


def _of_record(record: message_pb2.MessageRecord) -> dict[str, Any]:
    """Return what is shown of one recipient's copy."""
    steps = []
    for index, hop in enumerate(record.hops):
        step = output.word(message_pb2.MessageState, hop.state, "MESSAGE_STATE_")
        what = _what(record, index)
        steps.append(_step(hop.time, record.hops[index - 1].time if index else None, step, what))
    return {
        "message_id": record.message_id,
        "sender": record.sender,
        "recipient": record.recipient,
        "type": record.type,
        "position": record.position,
        "attempts": record.attempts,
        "redrives": record.redrives,
        "correlation_id": record.envelope.correlation_id,
        "reason": record.reason,
        "last_error": record.last_error,
        "steps": steps,
    }


def _what(record: message_pb2.MessageRecord, index: int) -> str:
    """Return what is known of a step: why, for the last one; that it was sent again, for a second acceptance."""
    if index == len(record.hops) - 1:
        last_error = f"; {record.last_error}" if record.last_error else ""
        if record.reason:
            return output.printable(record.reason + last_error)
    state = record.hops[index].state
    if state == message_pb2.MESSAGE_STATE_ACCEPTED:
        return "sent again" if index else "stored"
    if state == message_pb2.MESSAGE_STATE_SEEN and record.hops[index - 1].state == state:
        return "fetched by the next process of the recipient"
    return {
        message_pb2.MESSAGE_STATE_AT_SIDECAR: "in the journal of the recipient's sidecar",
        message_pb2.MESSAGE_STATE_SEEN: "fetched by the recipient",
        message_pb2.MESSAGE_STATE_ACKED: "acknowledged by the recipient",
    }.get(state, "")


def _about(record: message_pb2.MessageRecord) -> list[tuple[str, str]]:
    took = _seconds(record.hops[-1].time, record.hops[0].time) if len(record.hops) > 1 else None
    return [
        ("message", record.message_id),
        ("from", record.sender),
        ("to", f"{record.recipient}, position {record.position}"),
        ("type", record.type),
        ("answers", record.envelope.correlation_id),
        ("attempts", str(record.attempts or "")),
        ("sent again", f"{record.redrives} x" if record.redrives else ""),
        ("took", format_duration(took) if took is not None else ""),
    ]


async def _task(wanted: str, form: Format) -> None:
    async with connection.connect() as conductor:
        task = await conductor.tasks.get(wanted)
        events = await _events(conductor, task.task_id)
    steps = []
    for index, event in enumerate(events):
        what = f"{event.agent_id}: {event.summary}" if event.agent_id and event.agent_id not in event.summary else event.summary
        steps.append(_step(event.time, events[index - 1].time if index else None, event.type, output.printable(what)))
    found = {"task_id": task.task_id, "steps": steps}
    if form is not Format.TABLE and form is not Format.WIDE:
        output.show_one(form, found, list, task.task_id)
    elif steps:
        output.facts([("task", task.task_id)])
        output.table(steps, COLUMNS)
    else:
        output.say(f"nothing about {task.task_id} is in the event log any more; `conductor tasks show` tells how it stands")


async def _events(conductor: Conductor, task_id: str) -> Sequence[event_pb2.Event]:
    """Return the events about a task that are kept."""
    found: list[event_pb2.Event] = []
    async with aclosing(conductor.events.watch(after=0, task_id=task_id)) as stream:
        while True:
            try:
                async with asyncio.timeout(QUIET):
                    answer = await anext(stream)
            except TimeoutError:
                return found
            if answer.HasField("event"):
                found.append(answer.event)


def _step(time: Timestamp, before: Timestamp | None, step: str, what: str) -> dict[str, Any]:
    delay = _seconds(time, before) if before is not None else None
    return {
        "time": time.ToJsonString(),
        "after_seconds": delay,
        "step": step,
        "what": what,
    }


def _clock(written: str) -> str:
    """Return a point in time in the local zone, to the millisecond."""
    time = Timestamp()
    time.FromJsonString(written)
    return f"{output.moment(time)}.{time.nanos // 1_000_000:03d}"


def _after(seconds: float | None) -> str:
    return f"+{format_duration(seconds)}" if seconds is not None else ""


def _seconds(later: Timestamp, earlier: Timestamp) -> float:
    return max(0.0, (later.ToNanoseconds() - earlier.ToNanoseconds()) / 1e9)

"""`conductor test`: on the running set, a task and a message at each isolation level that is possible here, then a verdict."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Annotated

import typer

from claude_conductor.cli import commands, complaint, exits, output, session, task_view
from claude_conductor.cli.agents import level as level_word
from claude_conductor.cli.host import Probe
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.cli.request import Request, spec
from claude_conductor.cli.run import ensure_running
from claude_conductor.client import Conductor
from claude_conductor.errors import ConductorError
from claude_conductor.settings import words
from claude_conductor.units import format_duration, parse_duration
from claude_conductor.v1 import message_pb2, task_pb2

app = commands.app("Try the running set.")

_SENTENCE = "conductor test"
_STEPS = f"print {_SENTENCE}\nprobe network\nprobe home\nwrite proof.txt {_SENTENCE}\nread proof.txt\nsleep 1"
_HELD = frozenset((message_pb2.MESSAGE_STATE_ACCEPTED, message_pb2.MESSAGE_STATE_AT_SIDECAR, message_pb2.MESSAGE_STATE_SEEN))

COLUMNS = (
    Column("LEVEL", lambda row: row["level"]),
    Column("WHAT", lambda row: row["what"]),
    Column("VERDICT", lambda row: row["verdict"]),
    Column("TIME", lambda row: row["time"]),
    Column("FOUND", lambda row: row["found"]),
)
Row = dict[str, str]


@app.command()
def trial(
    timeout: Annotated[str, typer.Option("--timeout", help="For each level.")] = "60s", form: FormatOption = Format.TABLE
) -> None:
    """Give the running set a task and a message at each isolation level that is possible here."""
    seconds = parse_duration(timeout)
    ensure_running()
    with Probe() as probe:
        possible = probe.report().possible
    rows = session.run(_try(possible, seconds))
    output.show_rows(form, rows, COLUMNS, lambda row: f"{row['level']} {row['what']} {row['verdict']}", "")
    bad = [row for row in rows if row["verdict"] == "FAILED"]
    if not any(row["verdict"] == "ok" for row in rows):
        bad = bad or rows
    if form is Format.TABLE:
        say("")
        say("everything works" if not bad else f"{len(bad)} of {len(rows)} failed")
        if bad:
            complaint.note("  next: `conductor doctor` checks the host, `conductor logs --component controlplane` tells more")
    raise typer.Exit(exits.FAILURE if bad else exits.OK)


async def _try(possible: tuple[str, ...], seconds: float) -> list[Row]:
    rows: list[Row] = []
    async with session.connect() as conductor:
        for level in words.LEVELS:
            if level not in possible:
                rows.append(_row(level, "task", "skipped", 0.0, "this host cannot: `conductor doctor` says why"))
                continue
            rows += await _level(conductor, level, seconds)
    return rows


async def _level(conductor: Conductor, level: str, seconds: float) -> list[Row]:
    """Run a task at one level, and send its mailbox a message while it runs."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            wanted = spec(
                Request(prompt=_STEPS, agent="scripted", level=level, type="generic", attempts=1, labels={"conductor": "test"})
            )
            task = await conductor.tasks.submit(wanted, request_id=secrets.token_hex(16))
            message = await _message(conductor, level, task.task_id)
            task = await conductor.tasks.wait(task.task_id)
            written = b"".join([piece.data async for piece in conductor.tasks.output(task.task_id)]).decode("utf-8", "replace")
    except TimeoutError:
        return [_row(level, "task", "FAILED", seconds, "it did not end in time")]
    except ConductorError as error:
        return [_row(level, "task", "FAILED", time.monotonic() - began, str(error))]
    return [_row(level, "task", *_judge(task, written, level, time.monotonic() - began)), message]


async def _message(conductor: Conductor, level: str, task_id: str) -> Row:
    """Send a message to the task's mailbox once it runs, and see it stored or delivered."""
    async for task in conductor.tasks.watch(task_id):
        if task.state not in (task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_LEASED, task_pb2.TASK_STATE_BLOCKED):
            break
    began = time.monotonic()
    try:
        sent = await conductor.messages.send(f"task/{task_id}", _SENTENCE.encode(), type="status_update")
        records = await conductor.messages.get(sent.message_id)
    except ConductorError as error:
        return _row(level, "message", "FAILED", time.monotonic() - began, str(error))
    took = time.monotonic() - began
    state = output.word(message_pb2.MessageState, records[0].state, "MESSAGE_STATE_").replace("_", " ") if records else "unknown"
    good = bool(records) and records[0].state in _HELD
    return _row(level, "message", "ok" if good else "FAILED", took, f"{state} by the mailbox of the task")


def _judge(task: task_pb2.Task, written: str, level: str, took: float) -> tuple[str, float, str]:
    if task.state != task_pb2.TASK_STATE_SUCCEEDED:
        return "FAILED", took, task_view.failure(task) or task_view.state(task)
    effective = level_word(task.result.isolation.effective_level)
    findings = [line for line in written.splitlines() if line.startswith(("network:", "home:"))]
    if written.count(_SENTENCE) < 2:
        return "FAILED", took, "its output is not what it wrote"
    if effective != level:
        return "FAILED", took, f"ran at {effective or 'no known level'}"
    if level == "strict" and any("reachable" in line and "unreachable" not in line for line in findings):
        return "FAILED", took, "the network can be reached at strict"
    return "ok", took, "; ".join(findings)


def _row(level: str, what: str, verdict: str, took: float, found: str) -> Row:
    return {"level": level, "what": what, "verdict": verdict, "time": format_duration(took), "found": found}

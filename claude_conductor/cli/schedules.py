"""`conductor schedules`: tasks that are submitted again and again, at times given by a cron expression."""

from __future__ import annotations

import enum
import inspect
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from claude_conductor.cli import commands, complaint, output, run, session, sources, submission, task_view, when
from claude_conductor.cli.completion import schedule_names
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.cli.submission import Planned
from claude_conductor.cli.task_file import Entry
from claude_conductor.client import Conductor
from claude_conductor.v1 import schedule_pb2, task_pb2

app = commands.app("Create, list, show, pause, resume, run and delete schedules.", group=True)

_Answer = TypeVar("_Answer")

NameArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its name, or its id.", autocompletion=schedule_names)]


class Overlap(enum.StrEnum):
    """What a firing does while the task of an earlier one goes on."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


def create(
    name: str,
    cron: str,
    zone: str,
    overlap: Overlap,
    form: Format,
    **given: Any,  # noqa: ANN401 - the arguments of `run`
) -> None:
    """Submit a task again and again. A firing that was missed while nothing ran is caught up once.

    Each firing works on what is committed then. Times are those of your time zone unless --zone says otherwise.

    Example: conductor schedules create nightly "review what changed today" --cron "0 3 * * *" --repo . --agent claude-code
    """
    (planned,) = submission.plan(sources.found([Entry(run.asked(**given))]))
    wanted = schedule_pb2.Schedule(
        name=name,
        cron=cron,
        time_zone=zone or when.zone_name(os.environ),
        overlap=schedule_pb2.OverlapRule.Value(f"OVERLAP_RULE_{overlap.name}"),
        spec=planned.spec,
    )
    run.ensure_running()
    made = session.run(_create(wanted, planned))
    _show(form, made)


_OWN = {
    "name": Annotated[str, typer.Argument(help="What to call it: small letters, digits, '-', '_' and '.'.")],
    "cron": Annotated[
        str, typer.Option("--cron", help="Minute, hour, day, month, weekday, such as '30 2 * * MON-FRI'; or @hourly, @daily ...")
    ],
    "zone": Annotated[str, typer.Option("--zone", help="Time zone, such as Europe/Berlin.", show_default="this machine's")],
    "overlap": Annotated[
        Overlap, typer.Option("--overlap", help="While the task before goes on: skip, queue one behind it, or replace it.")
    ],
}
_DEFAULTS = {"zone": "", "overlap": Overlap.SKIP}
_KIND = inspect.Parameter.KEYWORD_ONLY
_EMPTY = inspect.Parameter.empty
_NOT_AGAIN = ("wait", "wait_timeout", "count", "file", "at", "within", "dirty", "copy", "form")
_PARAMETERS = [
    *(inspect.Parameter(each, _KIND, annotation=hint, default=_DEFAULTS.get(each, _EMPTY)) for each, hint in _OWN.items()),
    *(each.replace(kind=_KIND) for each in run.PARAMETERS if each.name not in _NOT_AGAIN),
    inspect.Parameter("form", _KIND, annotation=FormatOption, default=Format.TABLE),
]
create.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]  # what typer reads
create.__annotations__ = {each.name: each.annotation for each in _PARAMETERS}
app.command("create")(create)


async def _create(wanted: schedule_pb2.Schedule, planned: Planned) -> schedule_pb2.Schedule:
    async with session.connect() as conductor:
        await submission.know_agents(conductor, [planned])
        return await conductor.schedules.create(wanted)


@app.command("list")
def list_(form: FormatOption = Format.TABLE) -> None:
    """List schedules, by name."""

    async def found() -> list[schedule_pb2.Schedule]:
        async with session.connect() as conductor:
            return await conductor.schedules.list()

    output.show_rows(form, session.run(found()), COLUMNS, lambda schedule: str(schedule.name), "no schedules")


@app.command()
def show(name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """Show a schedule with its last firings."""
    _show(form, _asked(lambda conductor: conductor.schedules.get(name)))


@app.command()
def pause(name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """Let a schedule fire nothing until it is resumed; the task that goes on is left alone."""
    _show(form, _asked(lambda conductor: conductor.schedules.pause(name)))


@app.command()
def resume(name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """Let a schedule fire again; what it missed while it was paused is not made up for."""
    _show(form, _asked(lambda conductor: conductor.schedules.resume(name)))


@app.command()
def delete(name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """Forget a schedule; its tasks stay, also one that goes on."""
    deleted = _asked(lambda conductor: conductor.schedules.delete(name))
    if form is Format.TABLE:
        output.say(f"deleted {deleted.name}")
        return
    _show(form, deleted)


@app.command("run-now")
def run_now(name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """Submit the task of a schedule now, also while it is paused; its next firing stays where it is."""
    task = _asked(lambda conductor: conductor.schedules.run(name, request_id=secrets.token_hex(16)))
    output.show_rows(form, [task], task_view.COLUMNS, task_view.name, "")
    if form is Format.TABLE:
        complaint.note(f"  next: conductor logs -f {task.task_id}")


def _asked(what: Callable[[Conductor], Awaitable[_Answer]]) -> _Answer:
    async def ask() -> _Answer:
        async with session.connect() as conductor:
            return await what(conductor)

    return session.run(ask())


def _show(form: Format, schedule: schedule_pb2.Schedule) -> None:
    output.show_one(form, schedule, lambda: _facts(schedule), schedule.name)


def _facts(schedule: schedule_pb2.Schedule) -> list[tuple[str, str]]:
    return [
        ("schedule", schedule.name),
        ("id", schedule.schedule_id),
        ("cron", f"{schedule.cron} ({schedule.time_zone})"),
        ("next", _next(schedule)),
        ("overlap", _rule(schedule)),
        ("task", output.printable(task_view.about(task_pb2.Task(spec=schedule.spec)))),
        ("created", output.moment(schedule.create_time)),
        ("tasks", f"conductor tasks list --label schedule={schedule.name}" if schedule.firings else ""),
        ("firings", "\n".join(f"{output.moment(firing.planned_time)}  {_said(firing)}" for firing in schedule.firings)),
    ]


def _next(schedule: schedule_pb2.Schedule) -> str:
    if schedule.paused:
        return "paused"
    return output.moment(schedule.next_time) or "never again"


def _rule(schedule: schedule_pb2.Schedule) -> str:
    return output.word(schedule_pb2.OverlapRule, schedule.overlap, "OVERLAP_RULE_")


def _said(firing: schedule_pb2.Firing) -> str:
    outcome = output.word(schedule_pb2.FiringOutcome, firing.outcome, "FIRING_OUTCOME_")
    said = firing.task_id or f"{outcome}: {firing.reason}"
    missed = f", after {firing.missed} missed" if firing.missed else ""
    return output.printable(said + (", by hand" if firing.by_hand else "") + missed)


COLUMNS = (
    Column("SCHEDULE", lambda schedule: schedule.name, least=8),
    Column("ID", lambda schedule: schedule.schedule_id, wide=True),
    Column("CRON", lambda schedule: schedule.cron, least=9),
    Column("ZONE", lambda schedule: schedule.time_zone),
    Column("NEXT", _next, least=19),
    Column("LAST", lambda schedule: _said(schedule.firings[0]) if schedule.firings else "-"),
    Column("OVERLAP", _rule, wide=True),
    Column("ABOUT", lambda schedule: task_view.about(task_pb2.Task(spec=schedule.spec))),
)

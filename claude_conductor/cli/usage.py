"""`conductor usage`: what tasks used, by what they have in common."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

import typer

from claude_conductor.cli import accounts, budgets, commands, output, session
from claude_conductor.cli.accounts import Account
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.cli.request import pairs
from claude_conductor.cli.since import SinceOption, parse
from claude_conductor.units import format_duration, format_size
from claude_conductor.v1 import task_pb2

app = commands.app("Show what tasks used.")

MOST: Final = 1_000_000
_NONE: Final = "-"


@app.command()
def usage(
    by: Annotated[str, typer.Option("--by", help="tenant, type, agent, driver, model, submitter, or label:NAME.")] = "type",
    since: SinceOption = "24h",
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="Only tasks with these labels.")
    ] = None,
    left: Annotated[bool, typer.Option("--budgets", help="Instead: how the budgets of tasks stand.")] = False,  # noqa: FBT002
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what tasks used that ended since then, all attempts counted: time, processor, memory, tokens, cost.

    Cost is by the price table (`conductor config prices`); `?` says that some of it is not known.
    """
    start = parse(since, dt.datetime.now().astimezone())
    accounts.by((), by)  # a wrong word is refused before anybody is asked
    tasks = session.run(tasks_since(start, pairs("--label", label or [])))
    if left:
        limited = [task for task in tasks if task.HasField("budget")]
        if form in (Format.JSON, Format.YAML):
            output.show_rows(form, [budgets.plain(task) for task in limited], (), str, "")
        else:
            output.show_rows(form, limited, budgets.COLUMNS, lambda task: task.task_id, "no task since then has a budget")
        return
    found = accounts.ended(tasks)
    rows = accounts.by(found, by)
    if form in (Format.JSON, Format.YAML):
        entries = [{by: row.key, **row.plain()} for row in rows]
        output.show_rows(form, [*entries, {by: None, **accounts.total(found).plain()}], (), str, "")
        return
    if len(rows) > 1 and form is not Format.NAME:
        rows.append(accounts.total(found))
    columns = (Column(by.removeprefix("label:").upper(), lambda row: row.key or _NONE, least=12), *COLUMNS)
    output.show_rows(form, rows, columns, lambda row: row.key, "no task ended since then")


async def tasks_since(start: dt.datetime, labels: dict[str, str]) -> list[task_pb2.Task]:
    """Return the tasks that are open or ended since then, newest first."""
    async with session.connect() as conductor:
        return await conductor.tasks.list(limit=MOST, active_since=start.timestamp(), labels=labels)


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ") if value else _NONE


def _succeeded(account: Account) -> str:
    return str(account.states.get("succeeded", 0))


def _cost(account: Account) -> str:
    known = f"${account.cost_usd:.4f}" if account.cost_usd else ""
    return f"{known} + ?".removeprefix(" + ") if account.unpriced_tokens else known or _NONE


COLUMNS: Final = (
    Column("TASKS", lambda row: str(row.tasks)),
    Column("SUCCEEDED", _succeeded),
    Column("TIME", lambda row: format_duration(row.wall_seconds) if row.wall_seconds else _NONE),
    Column("CPU", lambda row: f"{row.cpu_seconds:.1f} s" if row.cpu_seconds else _NONE),
    Column("MEMORY", lambda row: format_size(row.memory_peak_bytes) if row.memory_peak_bytes else _NONE),
    Column("TOKENS IN", lambda row: _number(row.input_tokens)),
    Column("CACHED", lambda row: _number(row.cache_read_tokens), wide=True),
    Column("TOKENS OUT", lambda row: _number(row.output_tokens)),
    Column("COST", _cost),
)

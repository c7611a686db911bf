"""`conductor top`: the fleet as it is now, once a second, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from claude_conductor.cli import agents, commands, output, question_view, session
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import ConductorError
from claude_conductor.units import format_size
from claude_conductor.v1 import admin_service_pb2, agent_pb2, task_pb2

app = commands.app("Show the fleet as it is now, once a second, until Ctrl-C.")

_FIRST: Final = ("waiting_for_human", "stalled", "rate_limited", "lost", "working", "starting", "idle")
"""What somebody has to look after comes first."""
_HELD: Final = (
    task_pb2.TASK_STATE_LEASED,
    task_pb2.TASK_STATE_RUNNING,
    task_pb2.TASK_STATE_WAITING_FOR_HUMAN,
    task_pb2.TASK_STATE_RATE_LIMITED,
)
_MOST: Final = 1000
_HINTS: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """An agent with the task it holds."""

    agent: agent_pb2.Agent
    task: task_pb2.Task | None


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet at one moment."""

    status: admin_service_pb2.GetStatusResponse
    rows: list[Row]

    def plain(self) -> dict[str, Any]:
        """Return what JSON and YAML show."""
        fleet = [{**output.plain(row.agent), **({"task": output.plain(row.task)} if row.task else {})} for row in self.rows]
        return {**output.plain(self.status), "fleet": fleet}


def _does(row: Row) -> str:
    if row.task is None:
        return row.agent.state_reason if agents.state(row.agent) in agents.UNUSUAL else "-"
    about = " ".join((row.task.spec.prompt or " ".join(row.task.spec.command)).split())
    return f"{about}: {row.task.progress}" if row.task.progress else about


COLUMNS: Final = (
    Column("STATE", lambda row: agents.state(row.agent), least=9),
    Column("AGENT", lambda row: row.agent.agent_id, least=8),
    Column("SINCE", lambda row: output.age(row.agent.state_time)),
    Column("MEMORY", lambda row: format_size(row.agent.use.memory_bytes) if row.agent.use.memory_bytes else "-"),
    Column("CPU", lambda row: f"{row.agent.use.cpu_seconds:.0f} s" if row.agent.use.cpu_seconds else "-"),
    Column("TASK", lambda row: row.agent.task_id or "-", least=output.ID_WIDTH),
    Column("DOES", _does, least=12),
)


@app.command()
def top(
    form: FormatOption = Format.TABLE,
    every: Annotated[float, typer.Option("--every", min=0.2, max=3600, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show the fleet as it is now, once a second, until Ctrl-C. Into a pipe, or as JSON or YAML, it is shown once."""
    session.run(_show(form, every))


async def _show(form: Format, every: float) -> None:
    async with session.connect() as conductor:
        moment = await look(conductor)
        if form in (Format.JSON, Format.YAML, Format.NAME):
            output.show_one(form, moment.plain(), list, "\n".join(row.agent.agent_id for row in moment.rows))
            return
        target = output.console()
        if not sys.stdout.isatty():
            target.print(picture(moment, target.width))
            return
        with Live(picture(moment, target.width), console=target, screen=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(every)
                try:
                    live.update(picture(await look(conductor), target.width), refresh=True)
                except ConductorError as error:
                    live.update(Text(f"{error.message} {error.next_step}; trying again"), refresh=True)


async def look(conductor: Conductor) -> Moment:
    """Return the fleet as it is now, what has to be looked after first."""
    status, fleet = await conductor.admin.status(), await conductor.agents.list()
    held = {task.task_id: task for task in await conductor.tasks.list(states=_HELD, limit=_MOST)}
    rows = [Row(agent, held.get(agent.task_id)) for agent in fleet]
    return Moment(status, sorted(rows, key=_rank))


def picture(moment: Moment, width: int) -> Group:
    """Return what is drawn, at most `width` characters wide."""
    ends = {output.word(task_pb2.TaskState, number, "TASK_STATE_") for number in FINAL}
    waiting = {state: count for state, count in moment.status.tasks.items() if state not in ends}
    head = f"tasks: {_counted(waiting)}    agents: {_counted(moment.status.agents)}    up {output.age(moment.status.start_time)}"
    asking = [row.task for row in moment.rows if row.task is not None and question_view.is_open(row.task)]
    hints = [Text(question_view.hint(task), no_wrap=True, overflow="ellipsis") for task in asking[:_HINTS]]
    grid = (
        output.grid(moment.rows, COLUMNS, width) if moment.rows else Text("no agents: `conductor start --agents N` starts some")
    )
    return Group(
        Text(head, style="bold", no_wrap=True, overflow="ellipsis"), Text(""), grid, *([Text(""), *hints] if hints else [])
    )


def _rank(row: Row) -> tuple[int, str]:
    word = agents.state(row.agent)
    return (_FIRST.index(word) if word in _FIRST else 0, row.agent.agent_id)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count) or "none"

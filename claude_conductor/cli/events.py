"""`conductor events`: what happened, and what happens."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import Annotated

import typer

from claude_conductor.cli import commands, output, session
from claude_conductor.cli.completion import task_ids
from claude_conductor.cli.output import Format, FormatOption, say
from claude_conductor.v1 import event_pb2, event_service_pb2

app = commands.app("Show what happens, as it happens.")

QUIET = 0.5
"""Seconds without another event after which history counts as read."""


@app.command()
def events(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as things happen.")] = False,  # noqa: FBT002
    task: Annotated[str, typer.Option("--task", autocompletion=task_ids, help="Only about this task.")] = "",
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only types that begin so, such as task.")] = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Only after this cursor.")] = 0,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what happened; with --follow, go on as things happen. JSON is one object a line."""
    session.run(_events(follow=follow, task=task, types=type_ or [], after=after, form=form))


async def _events(*, follow: bool, task: str, types: list[str], after: int, form: Format) -> None:
    async with session.connect() as conductor:
        task_id = (await conductor.tasks.get(task)).task_id if task else ""
        if not follow:
            await conductor.admin.status()  # a watch waits for a control plane that is away; a look at history should not
        async with aclosing(conductor.events.watch(after=after, types=types, task_id=task_id)) as stream:
            while True:
                try:
                    async with asyncio.timeout(None if follow else QUIET):
                        answer = await anext(stream)
                except TimeoutError:
                    return
                _show(answer, form)


def _show(answer: event_service_pb2.WatchEventsResponse, form: Format) -> None:
    if form in (Format.JSON, Format.YAML):
        say(output.json_line(answer))
    elif answer.HasField("gap"):
        say(f"... {answer.gap.to - getattr(answer.gap, 'from') + 1} events are no longer kept")
    elif form is Format.NAME:
        say(str(answer.event.cursor))
    else:
        say(_line(answer.event, wide=form is Format.WIDE))
    sys.stdout.flush()


def _line(event: event_pb2.Event, *, wide: bool) -> str:
    about = " ".join(part for part in (event.task_id, event.agent_id) if part)
    facts = " ".join(f"{name}={value}" for name, value in sorted(event.details.items())) if wide else ""
    return output.printable(f"{output.moment(event.time)}  {event.type:<18} {about}  {event.summary} {facts}".rstrip())

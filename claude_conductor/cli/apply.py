"""`conductor apply -f FILE`: submits the tasks of a file, in the order they wait for each other, and each of them once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from claude_conductor.cli import (
    commands,
    complaint,
    exits,
    merge,
    merge_file,
    output,
    session,
    sources,
    submission,
    task_file,
    task_view,
)
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.cli.request import Request, from_flag
from claude_conductor.cli.run import MOST, Progress, ensure_running, to_the_end
from claude_conductor.cli.submission import Planned
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.units import parse_duration
from claude_conductor.v1 import task_pb2

app = commands.app("Submit the tasks of a file, once.")


@app.command()
def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="YAML with a list `tasks`; `-` reads standard input.")],
    run: Annotated[
        str, typer.Option("--run", metavar="NAME", help="Name of this run: the same one goes on, another one does all anew.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and show what would be submitted.")] = False,  # noqa: FBT002
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Wait for the end of all.")] = False,  # noqa: FBT002
    wait_timeout: Annotated[str, typer.Option("--wait-timeout", help="How long to wait at most; the tasks go on.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Submit the tasks of a file. If one of them would be refused, none is submitted.

    The same file again, within a day, submits only what is new or changed: a call that broke off goes on where it was.

    Keys of a task: those of `conductor run`, `name`, and `after` with names of tasks that must have succeeded before. A block
    `defaults` holds keys for all of them. Paths begin at the folder you are in.

    A task with `subtasks` is a group: it ends when they have, with what came of them. `parallel` says how many of them at once
    (true: any number, false: one), `on_failure: stop` cancels the others when one fails; its other keys count for each of them.

    With a block `merge: {onto: BRANCH, check: CMD}` and --wait their patches land on that branch: `conductor merge -h`.

    Example: conductor apply -f tasks.yaml --wait
    """
    text = task_file.open_file(file)
    entries = task_file.read(text, Request())
    if len(entries) > MOST:
        raise InvalidArgumentError("That is too many tasks for one call.", next_step="divide the file", limit=MOST)
    patience = from_flag("--wait-timeout", wait_timeout, parse_duration)
    entries = sources.found(entries)
    merging = merge_file.read(text, entries)
    if merging is not None:
        merging.branch.refuse_checked_out()  # before anything is submitted
    planned = submission.repeatable(entries, text.source, run)
    ensure_running()
    if dry_run:
        session.run(_show(planned, form))
        return
    progress = Progress()
    code = to_the_end(planned, progress, wait=wait, patience=patience, form=form, named=True)
    if merging is not None and code in (exits.OK, exits.FAILURE):
        if wait:
            code = max(code, merge.land(merging, progress.task_ids))
        else:
            complaint.note(f"  then: the same with --wait lands their patches on {merging.branch.branch}")
    raise typer.Exit(code)


async def _show(planned: list[Planned], form: Format) -> None:
    async with session.connect() as conductor:
        specs = await submission.check(conductor, planned)
    if form in (Format.JSON, Format.YAML):
        rows = [
            {"name": each.label, "after": [planned[place].label for place in each.after], "spec": output.plain(spec)}
            for each, spec in zip(planned, specs, strict=True)
        ]
        output.show_rows(form, rows, (), str, "")
        return
    after = {each.label: ", ".join(planned[place].label for place in each.after) for each in planned}
    pairs = [(each.label, task_pb2.Task(spec=spec)) for each, spec in zip(planned, specs, strict=True)]
    columns = (
        Column("NAME", lambda row: str(row[0])),
        Column("AFTER", lambda row: after[row[0]] or _NONE),
        Column("TYPE", lambda row: str(row[1].spec.type)),
        Column("DRIVER", lambda row: str(row[1].spec.driver)),
        Column("PRIORITY", lambda row: str(row[1].spec.priority)),
        Column("ABOUT", lambda row: task_view.about(row[1])),
    )
    output.show_rows(form, pairs, columns, lambda row: str(row[0]), "")
    complaint.note("nothing was submitted")


_NONE: Final = "-"

"""`conductor logs`: the output of a task, or the log of one of our own programs."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from claude_conductor.cli import commands, log_files, session
from claude_conductor.cli.completion import task_ids
from claude_conductor.cli.output import say
from claude_conductor.cli.tasks import print_output
from claude_conductor.errors import InvalidArgumentError, NotRunningError
from claude_conductor.settings.home import find

app = commands.app("Show the output of a task, or the log of a program.")


def components(incomplete: str = "") -> list[str]:
    """Return the programs that have a log."""
    folder = find(os.environ).logs
    return sorted(path.stem for path in folder.glob("*.log") if path.stem.startswith(incomplete)) if folder.is_dir() else []


@app.command()
def logs(
    task: Annotated[str, typer.Argument(metavar="[TASK]", autocompletion=task_ids, help="Id of a task.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as more is written.")] = False,  # noqa: FBT002
    component: Annotated[
        str,
        typer.Option("--component", autocompletion=components, help="controlplane, supervisor or sidecar-AGENT."),
    ] = "",
    lines: Annotated[int, typer.Option("--lines", min=0, help="How many lines of a program's log.")] = 100,
    raw: Annotated[bool, typer.Option("--raw", help="The JSON lines as they are.")] = False,  # noqa: FBT002
) -> None:
    """Show the output of a task, or (without one) the log of a program of ours."""
    if task and component:
        raise InvalidArgumentError("A task and --component exclude each other.", next_step="give one of the two")
    if task:
        session.run(print_output(task, follow=follow))
        return
    path = log_path(component or "controlplane")
    for line in log_files.tail(path, lines):
        say(line if raw else log_files.readable(line))
    if follow:
        for line in log_files.follow(path):
            say(line if raw else log_files.readable(line))
            sys.stdout.flush()


def log_path(component: str) -> Path:
    """Return the log of a program.

    Raises:
        InvalidArgumentError: There is no such program.
        NotRunningError: Nothing ever ran here.
    """
    known = components()
    home = find(os.environ)
    if not known:
        raise NotRunningError("There is no log: Conductor has not run in this home yet.", home=home.path)
    name = component if component in known else f"sidecar-{component}"
    if name not in known:
        near = difflib.get_close_matches(component, known, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InvalidArgumentError(
            "No program of this name has a log.", next_step=f"{meant}there are: {', '.join(known)}", component=component
        )
    return home.logs / f"{name}.log"

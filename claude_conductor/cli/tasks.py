"""`conductor tasks`: which tasks there are, what became of them, and what to do with their patches."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from claude_conductor.cli import commands, complaint, exits, follow, output, patches, question_view, session, task_view
from claude_conductor.cli.answer import answer
from claude_conductor.cli.completion import task_ids
from claude_conductor.cli.output import Format, FormatOption, say
from claude_conductor.cli.request import from_flag, pairs
from claude_conductor.cli.run import show_results, submit
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import InvalidArgumentError, WorkspaceError
from claude_conductor.units import parse_duration
from claude_conductor.v1 import task_pb2

app = commands.app("List, show, answer, compare, cancel and apply tasks.", group=True)


def _whole(text: str) -> str:
    """Return an id without the ellipsis of a table it was copied from: its beginning is enough."""
    return text.rstrip("…")


TaskArgument = Annotated[
    str,
    typer.Argument(
        metavar="TASK", autocompletion=task_ids, parser=_whole, help="Id of a task, or a beginning of it that only it has."
    ),
]


@app.command("list")
def list_(
    state: Annotated[list[str] | None, typer.Option("--state", help="Only these states, such as running.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="Only with these labels.")] = None,
    parent: Annotated[str, typer.Option("--parent", help="Only children of this task.", autocompletion=task_ids)] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """List tasks, newest first."""
    from_flags = pairs("--label", label or [])
    session.run(_list([_state(word) for word in state or []], from_flags, parent, limit, form))


app.command("submit")(submit)
app.command("answer")(answer)


@app.command()
def show(task: TaskArgument, form: FormatOption = Format.TABLE) -> None:
    """Show everything about one task."""
    session.run(_show(task, form))


@app.command()
def wait(
    task: Annotated[list[str], typer.Argument(metavar="TASK...", autocompletion=task_ids, parser=_whole, help="Ids of tasks.")],
    timeout: Annotated[str, typer.Option("--timeout", help="How long at most; the tasks go on.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Wait for tasks to end; exit code 1 if one did not succeed."""
    raise typer.Exit(session.run(_wait(task, from_flag("--timeout", timeout, parse_duration), form)))


@app.command()
def cancel(
    task: Annotated[list[str], typer.Argument(metavar="TASK...", autocompletion=task_ids, parser=_whole, help="Ids of tasks.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, shown to people.")] = "cancelled from the command line",
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Wait until their agents have ended.")] = True,  # noqa: FBT002
) -> None:
    """End tasks and their children."""
    session.run(_cancel(task, reason, wait=wait))


@app.command("output")
def output_(
    task: TaskArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the task has ended.")] = False,  # noqa: FBT002
    attempt: Annotated[int, typer.Option("--attempt", min=0, help="Which attempt.", show_default="the newest")] = 0,
) -> None:
    """Print what the agent wrote, standard output and error each to their own."""
    session.run(print_output(task, follow=follow, attempt=attempt))


@app.command()
def workspace(task: TaskArgument) -> None:
    """Print the folder where the files of a finished task are, if it was submitted with --keep-workspace."""
    session.run(_workspace(task))


@app.command()
def patch(task: TaskArgument) -> None:
    """Print the patch of a task, to be piped into `git apply`."""
    session.run(patches.print_patch(task))


@app.command()
def diff(
    task: TaskArgument,
    stat: Annotated[bool, typer.Option("--stat", help="Only which files, and how many lines.")] = False,  # noqa: FBT002
) -> None:
    """Show the patch of a task: coloured, and with nothing in it that steers your terminal."""
    session.run(patches.show_diff(task, stat=stat))


@app.command()
def compare(
    task: Annotated[list[str], typer.Argument(metavar="TASK...", autocompletion=task_ids, parser=_whole, help="Ids of tasks.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare tasks side by side: how they ended, what they used, and which files they changed."""
    session.run(patches.compare(task, form))


@app.command()
def apply(
    task: TaskArgument,
    repo: Annotated[str, typer.Option("--repo", help="Repository to put it into.", show_default="the task's own")] = "",
    branch: Annotated[str, typer.Option("--branch", help="Name of the new branch.", show_default="conductor/TASK")] = "",
) -> None:
    """Put the patch of a task on a new branch; your working tree stays as it is."""
    session.run(patches.put_on_branch(task, repo, branch))


async def _list(
    states: list[task_pb2.TaskState.ValueType], labels: dict[str, str], parent: str, limit: int, form: Format
) -> None:
    async with session.connect() as conductor:
        tasks = await conductor.tasks.list(limit=limit, states=states, parent_task_id=parent, labels=labels)
    output.show_rows(form, tasks, task_view.COLUMNS, task_view.name, 'no tasks: `conductor run "..." --repo .` submits one')
    if form in (Format.TABLE, Format.WIDE):
        for task in filter(question_view.is_open, tasks):
            complaint.note(f"  {question_view.hint(task)}")


async def _show(task_id: str, form: Format) -> None:
    async with session.connect() as conductor:
        task = await conductor.tasks.get(task_id)
        subtasks = await conductor.tasks.list(parent_task_id=task.task_id) if task.spec.HasField("fan_out") else []
    now = time.time()
    told = task_view.subtasks(task, subtasks[::-1], now)
    output.show_one(form, task, lambda: [*task_view.details(task, now), ("subtasks", told)], task.task_id)


async def _wait(ids: list[str], timeout: float | None, form: Format) -> int:
    async with session.connect() as conductor:
        tasks = [await conductor.tasks.get(task_id) for task_id in ids]
        with follow.Board(tasks) as board:
            done = await follow.follow(conductor, board, timeout=timeout)
    show_results(done, form)
    return exits.OK if all(task.state == task_pb2.TASK_STATE_SUCCEEDED for task in done) else exits.FAILURE


async def _cancel(ids: list[str], reason: str, *, wait: bool) -> None:
    async with session.connect() as conductor:
        for wanted in ids:
            task = await conductor.tasks.get(wanted)
            task = await conductor.tasks.cancel(task.task_id, reason=reason)
            if wait and task.state not in FINAL:
                async with asyncio.timeout(60):
                    task = await conductor.tasks.wait(task.task_id)
            say(f"{task.task_id} {task_view.state(task)}")


async def _workspace(task_id: str) -> None:
    async with session.connect() as conductor:
        task = await conductor.tasks.get(task_id)
    folder = task.result.workspace
    if not folder:
        because = "it has not ended yet" if task.state not in FINAL else "it was removed at its end"
        raise WorkspaceError(
            "The workspace of this task is not kept.",
            next_step="submit a task with --keep-workspace, or set `agent.keep_workspaces` for failed ones",
            task=task.task_id,
            because=because,
        )
    say(output.printable(folder))
    if not await asyncio.to_thread(Path(folder).is_dir):
        complaint.warn("there is no such folder here: it was kept long enough, or is on the host of its agent")


async def print_output(task_id: str, *, follow: bool, attempt: int = 0) -> None:
    """Print an agent's output as it is; on a terminal without what would steer it."""
    async with session.connect() as conductor:
        task = await conductor.tasks.get(task_id)
        async with aclosing(conductor.tasks.output(task.task_id, attempt=attempt, follow=follow)) as pieces:
            async for piece in pieces:
                if piece.HasField("gap"):
                    complaint.warn("earlier output is no longer kept")
                    continue
                stream = sys.stdout if piece.stream == "stdout" else sys.stderr
                if stream.isatty():
                    stream.write(output.printable_lines(piece.data.decode("utf-8", "replace")))
                else:
                    stream.buffer.write(piece.data)
                stream.flush()


def _state(word: str) -> task_pb2.TaskState.ValueType:
    name = f"TASK_STATE_{word.strip().upper().replace(' ', '_').replace('-', '_')}"
    if name not in task_pb2.TaskState.keys() or name == "TASK_STATE_UNSPECIFIED":  # noqa: SIM118 - an enum wrapper, not a mapping
        known = [each.removeprefix("TASK_STATE_").lower() for each in task_pb2.TaskState.keys()[1:]]
        raise InvalidArgumentError("There is no such state.", next_step=f"there are: {', '.join(known)}", state=word)
    return task_pb2.TaskState.Value(name)

"""`conductor run`: gives agents a task, and waits for it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from claude_conductor.cli import (
    commands,
    complaint,
    exits,
    follow,
    local_set,
    output,
    session,
    sources,
    submission,
    task_file,
    task_view,
    when,
)
from claude_conductor.cli import start as starting
from claude_conductor.cli.in_use import read_resolved
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.cli.request import Request, from_flag, pairs
from claude_conductor.cli.submission import Planned
from claude_conductor.cli.task_file import Entry
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings import place
from claude_conductor.settings.home import find
from claude_conductor.telemetry.traces import open_tracer, span
from claude_conductor.units import parse_duration
from claude_conductor.v1 import task_pb2

app = commands.app("Give agents a task, and wait for it.")

Flag = typer.Option
START_WAIT = 15.0
MOST = 1000
"""Tasks in one call."""


@dataclasses.dataclass(slots=True)
class Progress:
    """What was submitted so far, for whoever interrupts us."""

    task_ids: list[str] = dataclasses.field(default_factory=list)
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    """Task id -> what the file calls it."""

    def take(self, planned: Planned, task_id: str) -> None:
        """Take note of a task."""
        self.task_ids.append(task_id)
        self.labels[task_id] = planned.label


@app.command()
def run(
    prompt: Annotated[str, typer.Argument(help="What to do, in words; `-` reads it from standard input.")] = "",
    agent: Annotated[str, Flag("--agent", help="Kind of agent: command, claude-code, grpc-agent or scripted.")] = "",
    cmd: Annotated[str, Flag("--cmd", help="For `command`: a shell line; {prompt} in it is the prompt, as one word.")] = "",
    repo: Annotated[str, Flag("--repo", help="Git repository to work on; every task gets its own clone.")] = "",
    ref: Annotated[str, Flag("--ref", help="Branch, tag or commit of the repository.")] = "",
    dirty: Annotated[bool, Flag("--dirty", help="Take along what is not committed in it; your files stay as they are.")] = False,  # noqa: FBT002
    copy: Annotated[
        list[str] | None,
        Flag("--copy", metavar="PATH", help="File or folder of it that git does not have, such as a fixture, to take along."),
    ] = None,
    folder: Annotated[str, Flag("--folder", help="Folder to work on a copy of, instead of --repo.")] = "",
    count: Annotated[int, Flag("-n", "--count", min=1, max=MOST, help="How many attempts at the same thing, side by side.")] = 1,
    file: Annotated[Path | None, Flag("-f", "--file", help="Several tasks from a file; the flags are their defaults.")] = None,
    wait: Annotated[bool, Flag("--wait/--detach", help="Wait for the end, or return once it is queued.")] = True,  # noqa: FBT002
    wait_timeout: Annotated[str, Flag("--wait-timeout", help="How long to wait at most; the task goes on.")] = "",
    timeout: Annotated[str, Flag("--timeout", help="How long one attempt may run, such as 30m.")] = "",
    type_: Annotated[str, Flag("--type", help="What sort of task; `conductor types list` shows them.")] = "",
    priority: Annotated[int, Flag("--priority", help="1 (last) to 10 (first).", show_default="5")] = 0,
    attempts: Annotated[int, Flag("--attempts", min=0, max=100, help="How often it is tried in all.", show_default="3")] = 0,
    memory: Annotated[str, Flag("--memory", help="Memory limit, such as 2g.")] = "",
    cpus: Annotated[str, Flag("--cpus", help="Processor limit, such as 0.5.")] = "",
    disk: Annotated[str, Flag("--disk", help="Size of the workspace, such as 10g.")] = "",
    level: Annotated[str, Flag("--level", help="Isolation: strict, moderate or minimal. Never lowered by itself.")] = "",
    allow: Annotated[
        list[str] | None, Flag("--allow", metavar="HOST[:PORT]", help="Hosts the agent may reach, or pypi, npm, github, ...")
    ] = None,
    model: Annotated[str, Flag("--model", help="Model, for agents that use one.")] = "",
    on: Annotated[str, Flag("--on", metavar="AGENT", help="The one agent that shall do it.")] = "",
    prompt_by: Annotated[str, Flag("--prompt-by", help="How the prompt reaches a command: argument, stdin or file.")] = "",
    env: Annotated[list[str] | None, Flag("--env", metavar="NAME=VALUE", help="Variable of the agent; never a secret.")] = None,
    label: Annotated[list[str] | None, Flag("--label", metavar="NAME=VALUE", help="Label to find the task by.")] = None,
    needs: Annotated[list[str] | None, Flag("--needs", metavar="NAME=VALUE", help="Label the agent must have.")] = None,
    writes: Annotated[
        list[str] | None, Flag("--writes", metavar="PATHS", help="What it may change, such as src/,docs/*.md; no two at once.")
    ] = None,
    setup: Annotated[str, Flag("--setup", help="Shell line that makes the workspace ready before the agent starts.")] = "",
    setup_timeout: Annotated[str, Flag("--setup-timeout", help="How long it may run.", show_default="10m")] = "",
    setup_cache: Annotated[
        list[str] | None,
        Flag("--setup-cache", metavar="FILE", help="Skip it while this file of the workspace, such as a lock file, is the same."),
    ] = None,
    setup_keep: Annotated[
        list[str] | None,
        Flag("--setup-keep", metavar="PATH", help="What it makes: kept for the next.", show_default=".venv, node_modules"),
    ] = None,
    keep_workspace: Annotated[bool, Flag("--keep-workspace", help="Leave its files: see `tasks workspace`.")] = False,  # noqa: FBT002
    budget_usd: Annotated[str, Flag("--budget-usd", help="The most it may cost in US dollars, such as 2.")] = "",
    budget_tokens: Annotated[str, Flag("--budget-tokens", help="Tokens it may use, such as 200k; cached ones are free.")] = "",
    budget_turns: Annotated[str, Flag("--budget-turns", help="Turns of its models, such as 30.")] = "",
    budget_time: Annotated[str, Flag("--budget-time", help="Time of agents over all attempts and subtasks, such as 20m.")] = "",
    at: Annotated[str, Flag("--at", metavar="TIME", help='When to start: 03:00 (the next), or "2026-11-24 03:00".')] = "",
    within: Annotated[str, Flag("--in", metavar="SPAN", help="How long from now to start, such as 10m.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Give agents a task, and wait for it. Starts the local set if none runs; Ctrl-C leaves the task running.

    Example: conductor run "fix the failing test" --agent claude-code --repo . -n 4
    """
    base = asked(**locals())
    text = None if file is None else task_file.open_file(file)
    entries = [Entry(base)] if text is None else task_file.read(text, base)
    if text is not None and "merge" in text.values:
        raise InvalidArgumentError(
            "A file with `merge` is for `conductor apply`, which lands the patches.",
            next_step=f"conductor apply -f {file} --wait",
            file=text.source,
        )
    if len(entries) * count > MOST:
        raise InvalidArgumentError("That is too many tasks for one call.", next_step="submit them in several", limit=MOST)
    if count > 1 and any(entry.after or entry.group for entry in entries):
        raise InvalidArgumentError("Tasks that wait for each other cannot be multiplied.", next_step="leave -n out", count=count)
    patience = from_flag("--wait-timeout", wait_timeout, parse_duration)
    planned = submission.plan(sources.found(entries), count)
    ensure_running()
    raise typer.Exit(
        to_the_end(planned, Progress(), wait=wait, patience=patience, form=form, named=file is not None and count == 1)
    )


def asked(**given: Any) -> Request:  # noqa: ANN401 - the arguments of `run`
    """Return the task that the flags of `run` ask for.

    Raises:
        InvalidArgumentError: A flag has a value that cannot be used.
    """
    prompt, now = given["prompt"], dt.datetime.now().astimezone()
    same = {name: given[name] for name in _SAME}
    lists: dict[str, Any] = {name: tuple(given[name] or ()) for name in ("allow", "setup_cache", "setup_keep")}
    return Request(
        prompt=sys.stdin.read() if prompt == "-" else prompt,
        copy=tuple(given.get("copy") or ()),
        dirty=given.get("dirty", False),
        at=when.begin(given.get("at", ""), given.get("within", ""), now),
        type=given["type_"],
        env=pairs("--env", given["env"] or []),
        labels=pairs("--label", given["label"] or []),
        needs=pairs("--needs", given["needs"] or []),
        writes=tuple(path for paths in given["writes"] or [] for path in paths.split(",")),
        **same,
        **lists,
    )


_SAME: Final = (
    *(
        "agent",
        "cmd",
        "repo",
        "ref",
        "folder",
        "priority",
        "timeout",
        "attempts",
        "memory",
        "cpus",
        "disk",
        "level",
        "model",
        "on",
    ),
    *("prompt_by", "setup", "setup_timeout", "keep_workspace"),
    *("budget_usd", "budget_tokens", "budget_turns", "budget_time"),
)
"""Flags that are called as what they set, and set what is written."""


def submit(**given: Any) -> None:  # noqa: ANN401 - the arguments of `run`
    """Queue a task and return at once: `conductor run --detach`."""
    run(**given, wait=False)


PARAMETERS: Final = tuple(inspect.signature(run, eval_str=True).parameters.values())
"""The flags of `run`, for verbs that take them as well."""
_PARAMETERS = [each for each in PARAMETERS if each.name not in ("wait", "wait_timeout")]
submit.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]  # what typer reads
submit.__annotations__ = {each.name: each.annotation for each in _PARAMETERS}


def ensure_running() -> None:
    """Start this home's set if that is whom we talk to and it does not run."""
    if not place.resolve(os.environ).local or find(os.environ).socket.is_socket():
        return
    complaint.note("Conductor does not run yet; starting it ...")
    in_use = read_resolved(None)
    complaint.note(starting.summary(local_set.start(in_use, wait=START_WAIT), in_use.resolved.levels))


async def carry_out(
    planned: Sequence[Planned], progress: Progress, *, wait: bool, patience: float | None, form: Format, named: bool
) -> int:
    """Check, submit, follow and show; returns the exit code.

    Args:
        planned: What to submit.
        progress: Told of what was.
        wait: For the end; otherwise only that they are queued.
        patience: Seconds to wait at most; None: as long as the tasks may take.
        form: How to show them.
        named: Show what a file calls them as well.
    """
    tracer = open_tracer("conductor", os.environ)
    parent = os.environ.get("TRACEPARENT", "")
    try:
        with span(tracer, "conductor run", parent=parent, kind="client", tasks=len(planned)) as current:
            async with session.connect() as conductor:
                await submission.prepare(conductor, planned)
                tasks = await submission.submit(conductor, planned, current.traceparent, progress.take)
                if not wait:
                    _show_queued(tasks, progress.labels if named else {}, form)
                    return exits.OK
                with follow.Board(tasks) as board:
                    done = await follow.follow(conductor, board, timeout=patience)
            failed = [task for task in done if task.state != task_pb2.TASK_STATE_SUCCEEDED]
            if failed:
                current.fail(task_view.state(failed[0]))
    finally:
        tracer.shutdown()
    show_results(done, form, progress.labels if named else None)
    return exits.FAILURE if failed else exits.OK


def _show_queued(tasks: list[task_pb2.Task], labels: Mapping[str, str], form: Format) -> None:
    name = (Column("NAME", lambda task: labels[task.task_id]),) if labels else ()
    if form in (Format.JSON, Format.YAML):
        _show_plain(tasks, labels, form)
    else:
        output.show_rows(form, tasks, (*name, *task_view.COLUMNS), task_view.name, "")
    for task in tasks:
        if _hopeless(task):
            complaint.warn(f"{task.task_id} waits: {task.reason}")
    if form is Format.TABLE:
        complaint.note(f"  next: {follow.come_back([task.task_id for task in tasks])}")


def _hopeless(task: task_pb2.Task) -> bool:
    """Tell whether nobody who is connected can do it; it waits, since somebody may come who can."""
    reasons = ("no connected agent ", f"waits for {task.spec.agent_id}, which ", "waits for an agent: none is connected")
    return task.state == task_pb2.TASK_STATE_QUEUED and task.reason.startswith(reasons)


def _show_plain(tasks: list[task_pb2.Task], labels: Mapping[str, str], form: Format) -> None:
    rows = [({"name": labels[task.task_id]} if labels else {}) | output.plain(task) for task in tasks]
    output.show_rows(form, rows, (), str, "")


def to_the_end(planned: Sequence[Planned], progress: Progress, **how: Any) -> int:  # noqa: ANN401 - of `carry_out`
    """Carry a plan out; Ctrl-C leaves what was submitted running and says how to come back. Returns the exit code."""
    try:
        return session.run(carry_out(planned, progress, **how))
    except KeyboardInterrupt:
        if not progress.task_ids:
            raise
        complaint.note("\nleft alone; it goes on." if len(progress.task_ids) == 1 else "\nleft alone; they go on.")
        complaint.note(f"  next: {follow.come_back(progress.task_ids)}")
        return exits.INTERRUPTED


def show_results(tasks: list[task_pb2.Task], form: Format, labels: Mapping[str, str] | None = None) -> None:
    """Show what came of finished tasks; `labels` are their names in a file, by task id."""
    labels = labels or {}
    if form is Format.NAME:
        output.show_rows(form, tasks, (), task_view.name, "")
        return
    if form in (Format.JSON, Format.YAML):
        _show_plain(tasks, labels, form)
        return
    for task in tasks:
        ran = task_view.line(task, 0.0).partition(" - ")[0]
        say(f"{labels[task.task_id]}: {ran}" if labels else ran)
        output.facts([(f"  {title}", value) for title, value in task_view.outcome(task) if value])

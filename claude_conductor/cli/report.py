"""`conductor report`: what was done, what came of it, and what there is to do about it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from claude_conductor.cli import accounts, commands, diff_view, output, patch_text, session, task_view
from claude_conductor.cli.merge_queue import CHECK_LABEL, done_again
from claude_conductor.cli.output import Format, FormatOption, say
from claude_conductor.cli.request import pairs
from claude_conductor.cli.since import SinceOption, parse
from claude_conductor.cli.usage import MOST
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import ArtefactNotFoundError
from claude_conductor.units import format_duration
from claude_conductor.v1 import task_pb2

app = commands.app("Show what was done.")

PATCHES: Final = 200
"""Patches that are read for files they have in common; the newest."""
_AT_ONCE: Final = 8
_LONGEST: Final = 3
_LISTED: Final = 20
Overlaps = dict[str, dict[str, list[str]]]
"""Repository -> file -> tasks that changed it."""


@app.command()
def report(
    since: SinceOption = "24h",
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="Only tasks with these labels.")
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what was done since then: ended and open tasks, failures with reasons, patches to take, files they share, usage."""
    now = dt.datetime.now().astimezone()
    start = parse(since, now)
    tasks, overlaps = session.run(_gather(start, pairs("--label", label or [])))
    if form is Format.NAME:
        for task in tasks:
            say(task.task_id)
    elif form in (Format.JSON, Format.YAML):
        output.show_one(form, plain(start, tasks, overlaps), lambda: (), "")
    else:
        for line in told(start, tasks, overlaps, now.timestamp()):
            say(line)


async def _gather(start: dt.datetime, labels: dict[str, str]) -> tuple[list[task_pb2.Task], Overlaps]:
    async with session.connect() as conductor:
        tasks = await conductor.tasks.list(limit=MOST, active_since=start.timestamp(), labels=labels)
        return tasks, await _overlaps(conductor, _to_take(tasks)[:PATCHES])


def _to_take(tasks: Sequence[task_pb2.Task]) -> list[task_pb2.Task]:
    """Return the tasks that succeeded with a patch that is not on a branch and not done again; a check's is none."""
    again = done_again(tasks)
    return [
        task
        for task in tasks
        if task.state == task_pb2.TASK_STATE_SUCCEEDED
        and task.task_id not in again
        and task.result.patch_artefact_id
        and task.landing.state in (task_pb2.LANDING_STATE_UNSPECIFIED, task_pb2.LANDING_STATE_EVICTED)
        and CHECK_LABEL not in task.spec.labels
    ]


def _landed(tasks: Sequence[task_pb2.Task]) -> list[task_pb2.Task]:
    return [task for task in tasks if task.landing.state == task_pb2.LANDING_STATE_LANDED]


def _evicted(tasks: Sequence[task_pb2.Task]) -> list[task_pb2.Task]:
    again = done_again(tasks)
    return [task for task in tasks if task.landing.state == task_pb2.LANDING_STATE_EVICTED and task.task_id not in again]


async def _overlaps(conductor: Conductor, tasks: Sequence[task_pb2.Task]) -> Overlaps:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def paths(task: task_pb2.Task) -> list[str]:
        async with gate:
            try:
                return [change.path for change in patch_text.files(await conductor.artefacts.read(task.result.patch_artefact_id))]
            except ArtefactNotFoundError:  # forgotten meanwhile
                return []

    async with asyncio.TaskGroup() as group:
        reads = {task.task_id: group.create_task(paths(task), name=f"patch of {task.task_id}") for task in tasks}
    places = {task.task_id: task.spec.workspace.git.repository for task in tasks}
    found = {
        place: accounts.shared({task_id: read.result() for task_id, read in reads.items() if places[task_id] == place})
        for place in dict.fromkeys(places.values())
    }
    return {place: files for place, files in found.items() if files}


def plain(start: dt.datetime, tasks: Sequence[task_pb2.Task], overlaps: Overlaps) -> dict[str, Any]:
    """Return the report for programs."""
    ended = accounts.ended(tasks)
    return {
        "since": start.isoformat(),
        "ended": accounts.total(ended).plain(),
        "open": accounts.total(task for task in tasks if task.state not in FINAL).plain()["states"],
        "failures": [
            {
                "task_id": task.task_id,
                "state": task_view.state(task),
                "reason": task_view.failure(task),
                "about": task_view.about(task),
            }
            for task in _failed(ended)
        ],
        "patches": [
            {
                "task_id": task.task_id,
                "repository": task.spec.workspace.git.repository,
                "base_commit": task.result.base_commit,
                "files": task.result.patch.files,
                "added_lines": task.result.patch.added_lines,
                "removed_lines": task.result.patch.removed_lines,
                "about": task_view.about(task),
            }
            for task in _to_take(tasks)
        ],
        "landed": [
            {"task_id": task.task_id, "branch": task.landing.branch, "commit": task.landing.commit} for task in _landed(tasks)
        ],
        "evicted": [
            {"task_id": task.task_id, "branch": task.landing.branch, "reason": task.landing.reason} for task in _evicted(tasks)
        ],
        "shared_files": overlaps,
        "longest": [{"task_id": task.task_id, "seconds": _seconds(task)} for task in _longest(ended)],
    }


def told(start: dt.datetime, tasks: Sequence[task_pb2.Task], overlaps: Overlaps, now: float) -> list[str]:
    """Return the report for people, as lines. `now` in seconds since the epoch."""
    ended = accounts.ended(tasks)
    going = [task for task in tasks if task.state not in FINAL]
    account = accounts.total(ended)
    lines = [f"Since {start.strftime('%Y-%m-%d %H:%M')}, {format_duration(max(0.0, now - start.timestamp()))} ago"]
    if not tasks:
        return [*lines, "no task was at work"]
    facts = [
        ("ended", f"{account.tasks}: {accounts.states(account)}" if ended else "none"),
        ("open", accounts.states(accounts.total(going))),
        ("used", account.used()),
        (
            "patches",
            f"{account.patches}: {account.files} files, +{account.added_lines} -{account.removed_lines}"
            if account.patches
            else "",
        ),
        ("failed by", ", ".join(f"{word} ({number})" for word, number in accounts.reasons(ended))),
    ]
    lines += [f"{title + ':':<11}{value}" for title, value in facts if value]
    lines += _block("Longest", [f"{format_duration(_seconds(task))}  {task.task_id}  {_about(task)}" for task in _longest(ended)])
    lines += _block(
        "Did not succeed",
        [
            f"{task.task_id}  {output.printable(task_view.failure(task)) or task_view.state(task)}  ({_about(task)})"
            for task in _failed(ended)
        ],
    )
    lines += _block(
        "Changed by more than one",
        [
            f"{diff_view.visible(path)}  {len(ids)} tasks: {', '.join(ids)}"
            for files in overlaps.values()
            for path, ids in files.items()
        ],
    )
    lines += _block("Landed", [f"{task.task_id}  {task.landing.branch}: {_about(task)}" for task in _landed(tasks)])
    lines += _block("Evicted", [f"{task.task_id}  {output.printable(task.landing.reason)}" for task in _evicted(tasks)])
    lines += _block(
        "To take",
        [f"conductor tasks apply {task.task_id}  # {task_view.patch(task)}: {_about(task)}" for task in _to_take(tasks)],
    )
    return lines


def _block(title: str, rows: Sequence[str]) -> list[str]:
    more = [f"  ... and {len(rows) - _LISTED} more"] if len(rows) > _LISTED else []
    return ["", f"{title}:", *(f"  {row}" for row in rows[:_LISTED]), *more] if rows else []


def _about(task: task_pb2.Task) -> str:
    return output.printable(task_view.about(task))


def _failed(ended: Sequence[task_pb2.Task]) -> list[task_pb2.Task]:
    return [task for task in ended if task.state != task_pb2.TASK_STATE_SUCCEEDED and CHECK_LABEL not in task.spec.labels]


def _longest(ended: Sequence[task_pb2.Task]) -> list[task_pb2.Task]:
    return sorted((task for task in ended if _seconds(task)), key=_seconds, reverse=True)[:_LONGEST]


def _seconds(task: task_pb2.Task) -> float:
    return round(task_view.seconds(task, 0.0) or 0.0, 3)

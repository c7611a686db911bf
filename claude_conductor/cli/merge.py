"""`conductor merge`: lands patches of tasks on a branch, one after another, each checked before it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from claude_conductor.cli import (
    commands,
    complaint,
    copies,
    exits,
    merge_file,
    merge_queue,
    merge_tasks,
    output,
    session,
    task_view,
)
from claude_conductor.cli.completion import task_ids
from claude_conductor.cli.integration import Integration
from claude_conductor.cli.merge_driver import Driver
from claude_conductor.cli.merge_file import Merging
from claude_conductor.cli.merge_queue import CHECK_LABEL, Wanted
from claude_conductor.cli.output import Column, Format, FormatOption, say
from claude_conductor.cli.request import Request, pairs
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import InvalidArgumentError, WorkspaceError
from claude_conductor.v1 import task_pb2

app = commands.app("Land patches on a branch, one by one, each checked.", group=True)
Flag = typer.Option

Tasks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TASK]...", autocompletion=task_ids, parser=lambda text: text.rstrip("…"), help="Tasks, in the order to land."
    ),
]
Onto = Annotated[str, Flag("--onto", metavar="BRANCH", help="The branch; it is made with the first patch that lands.")]
Repo = Annotated[str, Flag("--repo", help="The repository, on this machine.")]
All = Annotated[bool, Flag("--all", help="Every patch of the repository that was not tried on the branch yet.")]
Label = Annotated[list[str] | None, Flag("--label", metavar="NAME=VALUE", help="As --all, only of tasks with these labels.")]


@app.command()
def run(
    task: Tasks = None,
    onto: Onto = "",
    check: Annotated[str, Flag("--check", metavar="CMD", help="Shell line that must succeed with the patch, in a sandbox.")] = "",
    repo: Repo = ".",
    all_: All = False,  # noqa: FBT002
    label: Label = None,
    start: Annotated[
        str, Flag("--from", metavar="REF", help="Where the branch begins, if it is not there.", show_default="HEAD")
    ] = "",
    wait: Annotated[bool, Flag("--wait", help="Wait for tasks that have not ended; land each when it has.")] = False,  # noqa: FBT002
    level: Annotated[str, Flag("--level", help="Isolation of the check: strict, moderate or minimal.")] = "strict",
    timeout: Annotated[str, Flag("--timeout", help="How long a check may run.", show_default="1h")] = "",
    setup: Annotated[str, Flag("--setup", help="Shell line that makes the check's workspace ready.")] = "",
    setup_cache: Annotated[
        list[str] | None, Flag("--setup-cache", metavar="FILE", help="Skip it while this file, such as a lock file, is the same.")
    ] = None,
    allow: Annotated[list[str] | None, Flag("--allow", metavar="HOST[:PORT]", help="Hosts the check may reach.")] = None,
) -> None:
    """Land patches on a branch in order. Each is put upon what has landed before, checked there, and lands or is evicted.

    What is evicted keeps the conflict or the output of the check: `conductor tasks show TASK`. Your files stay as they are; a
    branch that is checked out is refused. Broken off at any moment, the same call again goes on.

    Exit code 0 if everything asked for is on the branch, 1 if not.

    Example: conductor merge run --all --onto agents --check "make test"
    """
    branch = Integration(repo, _branch(onto), start)
    more = {"level": level, "timeout": timeout, "setup": setup}
    lists = {"setup_cache": tuple(setup_cache or ()), "allow": tuple(allow or ())}
    merging = Merging(branch, merge_file.checking(check, branch, **more, **lists))
    raise typer.Exit(land(merging, task or [], pairs("--label", label or []), everything=all_, wait=wait))


def land(
    merging: Merging, named: Sequence[str], labels: dict[str, str] | None = None, *, everything: bool = False, wait: bool = False
) -> int:
    """Land patches, say what became of each, and return the exit code.

    Args:
        merging: Where, and what is checked.
        named: Ids of tasks, in the order to land.
        labels: Where none is named: only tasks with these.
        everything: Where none is named: every patch that was not tried yet.
        wait: For tasks that have not ended.
    """
    with merging.branch.held():
        return session.run(_run(merging.branch, named, labels or {}, merging.check, everything=everything, wait=wait))


@app.command()
def status(onto: Onto = "", repo: Repo = ".", label: Label = None, form: FormatOption = Format.TABLE) -> None:
    """Show what is on a branch, what was evicted, and what was not tried yet, in the order of landing.

    Example: conductor merge status --onto agents
    """
    session.run(_status(Integration(repo, _branch(onto)), pairs("--label", label or []), form))


@app.command()
def retry(
    task: Annotated[
        list[str],
        typer.Argument(metavar="TASK...", autocompletion=task_ids, parser=lambda text: text.rstrip("…"), help="Evicted tasks."),
    ],
    repo: Annotated[str, Flag("--repo", help="The repository of the branch.", show_default="the task's own")] = "",
) -> None:
    """Submit evicted tasks once more: they begin at the branch as it is now, and are told the conflict or the check's output.

    The new task takes the place of the old one: `conductor merge run` with the same words lands it. Doing this twice is harmless.

    Example: conductor merge retry task_0198
    """
    session.run(_retry(task, repo))


def _branch(name: str) -> str:
    if not name:
        raise InvalidArgumentError("Onto which branch?", next_step="add --onto BRANCH, such as --onto agents")
    return name


async def _run(
    branch: Integration, named: Sequence[str], labels: dict[str, str], check: Request, *, everything: bool, wait: bool
) -> int:
    if bool(named) == (everything or bool(labels)):
        raise InvalidArgumentError(
            "Tasks by their ids exclude --all and --label." if named else "Which patches shall land?",
            next_step="name tasks, or say --all for every patch of this repository that was not tried yet",
        )
    async with session.connect() as conductor:
        tasks = [await conductor.tasks.get(task_id) for task_id in named]
        for task in tasks:
            _usable(task, branch)
        wanted = Wanted(branch.branch, str(branch.top), tuple(task.task_id for task in tasks))
        place = merge_tasks.Place(conductor, wanted, labels, check)
        driver = Driver(branch, wanted, place)
        await driver.land_all()
        while wait and (going := merge_queue.unfinished(await place.tasks(), wanted)):
            complaint.note(f"waiting for {len(going)} task{'s' if len(going) > 1 else ''} ...")
            await _one_of(conductor, going)
            await driver.land_all()
        return _told(branch, wanted, driver, await place.tasks())


def _usable(task: task_pb2.Task, branch: Integration) -> None:
    """Refuse a task that can never land there."""
    if CHECK_LABEL in task.spec.labels:
        raise InvalidArgumentError("This task is a check; it has nothing to land.", next_step="leave it out", task=task.task_id)
    if task.state == task_pb2.TASK_STATE_SUCCEEDED and not branch.has(task.result.base_commit):
        raise WorkspaceError(
            "The commit that the task began at is not in this repository.",
            next_step="name the repository with --repo",
            task=task.task_id,
            commit=task.result.base_commit or "none: it had no repository",
            repo=branch.top,
        )


async def _one_of(conductor: Conductor, going: Sequence[task_pb2.Task]) -> None:
    """Return when one of the tasks has ended."""
    waits = [asyncio.create_task(conductor.tasks.wait(task.task_id), name=f"wait {task.task_id}") for task in going]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _told(branch: Integration, wanted: Wanted, driver: Driver, tasks: Sequence[task_pb2.Task]) -> int:
    """Say what is on the branch and what is not, and return the exit code."""
    states = [landing.state for landing in driver.tried.values()]
    landed = states.count(task_pb2.LANDING_STATE_LANDED)
    evicted = [task_id for task_id, landing in driver.tried.items() if landing.state == task_pb2.LANDING_STATE_EVICTED]
    going = merge_queue.unfinished(tasks, wanted)
    bad = [
        task
        for task in merge_queue.belonging(tasks, wanted)
        if wanted.task_ids and task.state in FINAL and task.state != task_pb2.TASK_STATE_SUCCEEDED
    ]
    where = f"at {branch.head()[:12]}" if branch.exists else "is not there yet"
    say(f"{branch.branch} {where}: {landed} landed, {len(evicted)} evicted")
    for task in bad:
        complaint.warn(f"{task.task_id} has nothing to land: it {task_view.state(task)}")
    if going:
        complaint.note(f"  {len(going)} not ended yet: --wait waits for them")
    if evicted:
        complaint.note(
            f"  next: `conductor tasks show {evicted[0]}` says why, `conductor merge retry {evicted[0]}` has it done again"
        )
    elif landed:
        complaint.note(f"  next: `git log {branch.branch}`, `git merge {branch.branch}`")
    return exits.FAILURE if evicted or bad or (going and wanted.task_ids) else exits.OK


async def _status(branch: Integration, labels: dict[str, str], form: Format) -> None:
    landed = branch.landed(branch.head()) if branch.exists else {}
    async with session.connect() as conductor:
        tasks = await conductor.tasks.list(limit=merge_tasks.MOST, labels=labels)
    wanted = Wanted(branch.branch, str(branch.top))
    rows = [
        (task, _standing(task, branch.branch, landed.get(task.task_id, "")))
        for task in merge_queue.belonging(tasks, wanted)
        if task.state not in FINAL or task.result.patch_artefact_id or task.task_id in landed
    ]
    if form in (Format.JSON, Format.YAML):
        plain = [{"task_id": task.task_id, "standing": stands, "landing": output.plain(task.landing)} for task, stands in rows]
        output.show_rows(form, plain, (), str, "")
        return
    columns = (
        Column("TASK", lambda row: row[0].task_id, least=output.ID_WIDTH),
        Column("STANDS", lambda row: row[1], least=9),
        Column("PATCH", lambda row: task_view.patch(row[0]) or "-"),
        Column("WHY", lambda row: row[0].landing.reason if merge_queue.dealt_with(row[0], branch.branch) else "-"),
        Column("ABOUT", lambda row: task_view.about(row[0])),
    )
    output.show_rows(form, rows, columns, lambda row: row[0].task_id, f"no patch of {branch.top}, and nothing under way")


def _standing(task: task_pb2.Task, branch: str, commit: str) -> str:
    """Return where a task stands with a branch. Of what is on it the branch is believed, not the record."""
    if commit:
        return f"landed {commit[:12]}"
    if task.state not in FINAL:
        return task_view.state(task)
    if not merge_queue.dealt_with(task, branch):
        return "not tried"
    taken_back = task.landing.state == task_pb2.LANDING_STATE_LANDED
    return "taken back" if taken_back else task_view.landing_word(task.landing)


async def _retry(named: Sequence[str], repo: str) -> None:
    async with session.connect() as conductor:
        tasks = [await conductor.tasks.get(task_id) for task_id in named]
        specs = []
        for task in tasks:
            if task.landing.state != task_pb2.LANDING_STATE_EVICTED:
                why = task_view.landing(task) or "nobody tried to land it"
                raise WorkspaceError(
                    "Only what was evicted is done again.", next_step="leave it out", task=task.task_id, because=why
                )
            branch = Integration(repo or task.spec.workspace.git.repository, task.landing.branch)
            if copies.below(str(branch.top), task.result.base_commit) != task.result.base_commit:
                complaint.warn(f"{task.task_id} had files copied along (--copy); the new try begins without them")
            specs.append(merge_tasks.again(task, str(branch.top), branch.head() if branch.exists else task.landing.commit))
        for task, wanted in zip(tasks, specs, strict=True):
            earlier = await conductor.tasks.list(labels={merge_queue.RETRY_LABEL: task.task_id})
            new = next((each for each in earlier if each.state not in FINAL or each.state == task_pb2.TASK_STATE_SUCCEEDED), None)
            if new is None:
                new = await conductor.tasks.submit(wanted, request_id=f"merge-retry-{task.task_id}-{len(earlier)}")
            say(f"{new.task_id} does {task.task_id} again: it {'is ' if new.state not in FINAL else ''}{task_view.state(new)}")

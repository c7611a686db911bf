"""What can be done with the patches of tasks: print, show, put on a branch, and compare?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from claude_conductor.cli import (
    comparison,
    complaint,
    copies,
    diff_view,
    output,
    patch_text,
    repository,
    session,
    snapshot,
    task_view,
)
from claude_conductor.cli.output import Format, say
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import ArtefactNotFoundError, WorkspaceError
from claude_conductor.v1 import task_pb2

_SUBJECT: Final = 72
"""Characters of a commit's first line."""


async def print_patch(task_id: str) -> None:
    """Print a patch byte for byte; on a terminal without what would steer it."""
    _, content = await _fetch(task_id)
    if sys.stdout.isatty():
        sys.stdout.write(output.printable_lines(content.decode("utf-8", "replace")))
    else:
        sys.stdout.buffer.write(content)


async def show_diff(task_id: str, *, stat: bool) -> None:
    """Show a patch to a person, or only its files."""
    task, content = await _fetch(task_id)
    for line in diff_view.stat(patch_text.files(content)) if stat else diff_view.shown(content, sys.stdout):
        say(line)
    _warn(task)


async def put_on_branch(task_id: str, repo: str, branch: str) -> None:
    """Put a patch on a new branch of a repository here."""
    task, content = await _fetch(task_id)
    target = repo or task.spec.workspace.git.repository
    if not target.startswith("/") and not repo:
        raise WorkspaceError("The task's repository is not a folder here.", next_step="name one with --repo", repository=target)
    name = branch or f"conductor/{task.task_id}"
    about = " ".join(task.spec.prompt.split())[:_SUBJECT] or task.task_id
    message = f"{about}\n\nConductor-Task: {task.task_id}\n"
    base = copies.below(target, task.result.base_commit)
    commit = repository.apply(target, base, content, name, message)
    say(f"branch {name} at {commit[:12]}: {task_view.patch(task)}")
    _warn(task)
    if snapshot.is_one(target, base):
        complaint.note("  it began at your uncommitted changes, which are the commit before it")
        complaint.note(f"  next: `git cherry-pick --no-commit {name}` adds the agent's work alone to what you have")
    else:
        complaint.note(f"  next: `git diff {base[:12]} {name}` shows it, `git merge {name}` takes it")


async def compare(task_ids: Sequence[str], form: Format) -> None:
    """Show tasks side by side: how each ended, what it used, and which files it changed."""
    async with session.connect() as conductor:
        tasks = [await conductor.tasks.get(task_id) for task_id in dict.fromkeys(task_ids)]
        tasks = list({task.task_id: task for task in tasks}.values())
        async with asyncio.TaskGroup() as group:
            reads = [group.create_task(_files(conductor, task), name=f"patch of {task.task_id}") for task in tasks]
    comparison.show([comparison.Side(task, tuple(read.result())) for task, read in zip(tasks, reads, strict=True)], form)


async def _files(conductor: Conductor, task: task_pb2.Task) -> list[patch_text.FileChange]:
    if not task.result.patch_artefact_id:
        return []
    return patch_text.files(await conductor.artefacts.read(task.result.patch_artefact_id))


async def _fetch(task_id: str) -> tuple[task_pb2.Task, bytes]:
    async with session.connect() as conductor:
        task = await conductor.tasks.get(task_id)
        return task, await _read(conductor, task)


async def _read(conductor: Conductor, task: task_pb2.Task) -> bytes:
    if not task.result.patch_artefact_id:
        why = (
            "the task has not ended yet" if task.state not in FINAL else "it changed nothing, or its workspace was no repository"
        )
        raise ArtefactNotFoundError("This task has no patch.", task=task.task_id, because=why)
    return await conductor.artefacts.read(task.result.patch_artefact_id)


def _warn(task: task_pb2.Task) -> None:
    for warning in task.result.warnings:
        complaint.warn(output.printable(warning))

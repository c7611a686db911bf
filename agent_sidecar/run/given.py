"""What is known of the task a long-running agent was given, and how do its files get to the agent and back?"""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from agent_sidecar.run.hook import Run
from claude_conductor.errors import WorkspaceError


@dataclass(slots=True)
class Completion:
    """What the agent said when it completed a task; the same words again are the same call, whose answer was lost."""

    said: tuple[str, str, str | None]
    """Id of the task, summary, failure."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Its report is journalled, or the task was withdrawn before."""
    withdrawn: bool = False


@dataclass(slots=True)
class Work:
    """The present task."""

    run: Run
    ready: bool = False
    """Its files are there: the agent may take it."""
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """The agent completed it, or its process ended."""
    offset: int = 0
    summary: str = ""


def move_in(run: Run, home: Path) -> None:
    """Put the task's files below the agent's folder. A rename follows no link, and is refused where something is.

    Raises:
        WorkspaceError: They cannot be put there.
    """
    if run.workspace is None:
        return
    try:
        run.workspace.rename(home / run.assignment.lease.task_id)
    except OSError as cause:
        raise WorkspaceError("The files could not be given to the agent.", path=run.workspace, cause=cause.strerror) from cause


def take_back(run: Run, home: Path) -> None:
    """Take the files from below the agent's folder again.

    Raises:
        WorkspaceError: They are not there, or the agent put something else in their place.
    """
    if run.workspace is None or os.path.lexists(run.workspace):
        return
    try:
        (home / run.assignment.lease.task_id).rename(run.workspace)
        if not stat.S_ISDIR(run.workspace.lstat().st_mode):
            run.workspace.unlink()
            raise WorkspaceError("The agent put something else in the place of its task's folder.")
    except FileNotFoundError as cause:
        raise WorkspaceError("The agent removed the folder of its task.") from cause
    except OSError as cause:
        raise WorkspaceError(path=run.workspace, cause=cause.strerror) from cause

"""The agent's files: a folder of its own before the run, a patch of what changed after it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_sidecar.run.files import beneath, source, tree
from agent_sidecar.run.files.changes import collect
from agent_sidecar.run.files.git import Git
from agent_sidecar.run.files.source import Base
from agent_sidecar.run.hook import Run
from agent_sidecar.run.task import EmptySource
from claude_conductor.errors import WorkspaceError
from claude_conductor.telemetry.traces import Tracer, span
from claude_conductor.units import format_duration
from claude_conductor.write_set import normal, outside, problem

_NAMED: Final = 10
"""Files outside of a write set that are named."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where workspaces and what belongs to them lie."""

    workspaces: Path
    """Folder of this agent's workspaces; ours, passable for the agent."""
    stores: Path
    """Folder of our own git folders; out of the agent's reach."""
    kept: Path
    """Folder of workspaces that are kept for a look; out of the agent's reach."""
    patches: Path
    """Folder of patches until they are sent."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Which workspaces are left for a look."""

    failed: bool = False
    """Those of failed runs, besides those of tasks that ask for it."""
    seconds: float = 7 * 86_400.0
    """How long; the next task of this slot removes older ones."""


class WorkspaceHook:
    """Fills `workspaces/TASK`, gives it to the agent, and takes the patch.

    Args:
        places: Folders.
        git: Runs git.
        tracer: Times both.
        agent_id: Name the agent commits as.
        agent_uid: Who gets the files.
        mount: False: always an empty folder, whatever the task names.
        kept: Which folders are kept, and how long.
        now: Returns seconds since the epoch.
        collect_seconds: Bound of making the patch.
    """

    name = "workspace"

    def __init__(
        self,
        places: Places,
        git: Git,
        tracer: Tracer,
        *,
        agent_id: str,
        agent_uid: int,
        mount: bool = True,
        kept: Kept,
        now: Callable[[], float],
        collect_seconds: float = 120.0,
    ) -> None:
        self._places = places
        self._git = git
        self._tracer = tracer
        self._agent_id = agent_id
        self._agent_uid = agent_uid
        self._mount = mount
        self._kept = kept
        self._now = now
        self._collect_seconds = collect_seconds
        self._base: Base | None = None

    async def prepare(self, run: Run) -> None:
        """Make the folder.

        Raises:
            WorkspaceError: The source cannot be read, or the folder not be made.
        """
        self._base = None
        with span(self._tracer, "workspace prepare", parent=run.task_traceparent):
            await self._prepare(run)

    async def _prepare(self, run: Run) -> None:
        task_id = run.assignment.lease.task_id
        target, store = self._places.workspaces / task_id, self._places.stores / task_id
        wanted = run.assignment.source if self._mount else EmptySource()
        try:
            await asyncio.to_thread(tree.prepare_parent, self._places.workspaces)
            await asyncio.to_thread(self._clear, target, store)
            run.workspace = target
            filled = await source.fill(wanted, target, store, self._git, self._agent_id)
            self._base = filled.base
            if wanted != run.assignment.source:
                run.warnings.append(
                    "`container_config.workspace_mount` is false: the workspace began empty, without the task's files"
                )
            run.warnings += filled.warnings
            await asyncio.to_thread(self._hand_over, run, target)
        except OSError as cause:
            raise WorkspaceError(path=target, cause=cause.strerror) from cause
        if filled.base is not None:
            run.base_commit = filled.base.commit

    async def during(self, run: Run) -> None:
        """Nothing to do."""

    async def finish(self, run: Run) -> None:
        """Take the patch and remove the folder.

        Raises:
            WorkspaceError: The changes cannot be read or are too large.
        """
        if run.workspace is None:
            return
        try:
            if self._base is not None and run.handle is not None:
                with span(self._tracer, "collect result", parent=run.task_traceparent):
                    await self._collect(run, run.workspace, self._base)
        finally:
            kept = run.assignment.keep_workspace or (self._kept.failed and not run.succeeded)
            await self._remove(run, run.workspace, kept=kept)

    async def _collect(self, run: Run, workspace: Path, base: Base) -> None:
        excluded = run.command.files if run.command is not None else {}
        made = run.assignment.setup.keep if run.assignment.setup is not None else ()
        try:
            async with asyncio.timeout(self._collect_seconds):
                collected = await collect(workspace, base, self._places.patches, self._git, excluded, made)
        except TimeoutError as cause:
            raise WorkspaceError(f"Its changes could not be read within {format_duration(self._collect_seconds)}.") from cause
        run.patch = collected.patch
        run.warnings += collected.warnings
        declared = [normal(pattern) for pattern in run.assignment.writes if not problem(pattern)]
        if declared and (strays := outside(declared, collected.paths)):
            run.warnings.append(_strays(strays))

    async def _remove(self, run: Run, workspace: Path, *, kept: bool) -> None:
        store = self._places.stores / run.assignment.lease.task_id
        try:
            await asyncio.to_thread(source.forget, store)
            if kept:
                run.kept = await asyncio.to_thread(self._keep, workspace)
            else:
                await asyncio.to_thread(tree.remove, workspace)
        except OSError as cause:
            run.warnings.append(f"the workspace could not be {'kept' if kept else 'removed'}: {cause}")

    def _keep(self, workspace: Path) -> Path:
        """Move a workspace to where no agent gets at it; one of an earlier attempt makes way."""
        tree.make_private(self._places.kept)
        kept = self._places.kept / workspace.name
        tree.remove(kept)
        os.utime(workspace)
        return workspace.rename(kept)

    def _forget(self) -> None:
        """Remove what was kept long enough."""
        with suppress(FileNotFoundError):
            for each in list(self._places.kept.iterdir()):
                if self._now() - each.lstat().st_mtime > self._kept.seconds:
                    tree.remove(each)

    def _clear(self, target: Path, store: Path) -> None:
        # Looked at again for each task: what cleans /tmp may have removed it, and somebody else made it anew.
        tree.make_private(self._places.stores.parent)
        tree.make_private(self._places.stores)
        tree.remove(target)
        tree.remove(store)
        self._forget()

    def _hand_over(self, run: Run, target: Path) -> None:
        """Write the files that come with the command, then give everything to the agent. Blocking."""
        target.chmod(0o700)
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name, content in (run.command.files if run.command is not None else {}).items():
                beneath.write(root, os.fsencode(name), content)
        finally:
            os.close(root)
        tree.give(target, self._agent_uid)


def _strays(paths: list[str]) -> str:
    named = ", ".join(map(repr, paths[:_NAMED]))
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"it changed {len(paths)} file{'s' if len(paths) > 1 else ''} outside of its write set: {named}{more}"

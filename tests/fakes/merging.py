"""Tasks with patches, made of what a function does to a clone; and what a merge driver needs, without a control plane."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from claude_conductor.cli.integration import Change
from claude_conductor.cli.merge_driver import Check
from claude_conductor.cli.merge_queue import Verdict
from claude_conductor.v1 import task_pb2
from tests.fakes.repository import git

Work = Callable[[Path], None]


def handed_in(repo: Path, number: int, work: Work, **spec: object) -> tuple[task_pb2.Task, bytes]:
    """Return a task that succeeded, and its patch: what `work` does to a clone of the repository's HEAD."""
    clone = repo.parent / f"clone-{number}"
    git(repo, "clone", "-q", str(repo), str(clone))
    base = git(clone, "rev-parse", "HEAD")
    work(clone)
    git(clone, "add", "-A")
    patch = subprocess.run(
        ["git", "-C", str(clone), "diff", "--binary", "--cached", base], check=True, capture_output=True
    ).stdout
    shutil.rmtree(clone)
    task = task_pb2.Task(
        task_id=f"task_{number:032x}",
        state=task_pb2.TASK_STATE_SUCCEEDED,
        agent_id="agent-1",
        spec=task_pb2.TaskSpec(prompt=f"do {number}", **spec),  # type: ignore[arg-type]  # names of its fields
    )
    task.spec.workspace.git.repository = str(repo)
    task.end_time.FromSeconds(1_700_000_000 + number)
    task.result.base_commit = base
    if patch:
        task.result.patch_artefact_id = f"art_{number}"
    return task, patch


class Handed:
    """The surroundings of a driver: the tasks there are, a check that is a function, and what was recorded."""

    def __init__(self, tasks: Sequence[tuple[task_pb2.Task, bytes]], passes: Callable[[str], bool]) -> None:
        self.all = {task.task_id: task for task, _ in tasks}
        self.patches = {task.task_id: patch for task, patch in tasks}
        self.passes = passes
        self.checked: list[str] = []
        self.before: Callable[[str], None] = lambda step: None
        """Called before and after each step, with its name."""

    async def tasks(self) -> list[task_pb2.Task]:
        self.before("tasks")
        return list(self.all.values())[::-1]

    async def change(self, task: task_pb2.Task) -> Change:
        self.before("change")
        spec, result = task.spec, task.result
        patch = self.patches[task.task_id]
        return Change(task.task_id, result.base_commit, patch, spec.prompt, task.agent_id, task.end_time.seconds, spec.writes)

    async def check(self, commit: str) -> Check:
        self.before("check")
        self.checked.append(commit)
        passed = self.passes(commit)
        self.before("checked")
        return Check(Verdict.PASSED if passed else Verdict.FAILED, "" if passed else "exit code 1", "boom", f"check of {commit}")

    async def record(self, task: task_pb2.Task, landing: task_pb2.Landing) -> None:
        self.before("record")
        self.all[task.task_id].landing.CopyFrom(landing)
        self.before("recorded")

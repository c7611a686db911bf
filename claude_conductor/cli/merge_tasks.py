"""How does `conductor merge` read tasks and patches, run a check as a task, and say what became of a patch?"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Final

from claude_conductor.cli import complaint, follow, merge_queue, output, task_view
from claude_conductor.cli.integration import OUTPUT_BYTES, Change
from claude_conductor.cli.merge_driver import Check
from claude_conductor.cli.merge_queue import CHECK_LABEL, RETRY_LABEL, Verdict, Wanted
from claude_conductor.cli.request import Request, spec
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.v1 import task_pb2

MOST: Final = 10_000
"""Tasks that are looked at; the newest."""
_QUOTED: Final = 16 << 10
"""Characters of a conflict or of a check's output in the prompt of the next try."""


class Place:
    """The control plane, as the driver sees it."""

    def __init__(self, conductor: Conductor, wanted: Wanted, labels: Mapping[str, str], check: Request) -> None:
        """Know whom to ask.

        Args:
            conductor: The control plane.
            wanted: What is to land.
            labels: Only tasks with these, where none is named.
            check: The task that checks, but for the commit.
        """
        self._conductor = conductor
        self._wanted = wanted
        self._labels = labels
        self._request = check

    async def tasks(self) -> list[task_pb2.Task]:
        """See Surroundings."""
        if not self._wanted.task_ids:
            return await self._conductor.tasks.list(limit=MOST, labels=self._labels)
        found: dict[str, task_pb2.Task] = {}
        ahead = list(self._wanted.task_ids)
        while ahead:
            task_id = ahead.pop()
            found[task_id] = await self._conductor.tasks.get(task_id)
            again = await self._conductor.tasks.list(labels={RETRY_LABEL: task_id})
            ahead += [task.task_id for task in again if task.task_id not in found]
        return list(found.values())

    async def change(self, task: task_pb2.Task) -> Change:
        """See Surroundings."""
        artefact = task.result.patch_artefact_id
        complaint.note(output.printable(f"{task.task_id} is next: {task_view.about(task)}"))
        return Change(
            task.task_id,
            task.result.base_commit,
            await self._conductor.artefacts.read(artefact) if artefact else b"",
            task_view.about(task),
            task.agent_id,
            task.end_time.seconds,
            task.spec.writes,
        )

    async def check(self, commit: str) -> Check:
        """See Surroundings. A check of the same commit that runs, or has passed within a day, is not run again."""
        wanted = spec(dataclasses.replace(self._request, ref=commit, labels={CHECK_LABEL: commit}))
        task = await self._submitted(wanted)
        with follow.Board([task]) as board:
            (task,) = await follow.follow(self._conductor, board, timeout=None)
        said = merge_queue.verdict(task)
        if said is Verdict.PASSED:
            return Check(said, task_id=task.task_id)
        printed = b""
        async for piece in self._conductor.tasks.output(task.task_id):
            printed = (printed + piece.data)[-OUTPUT_BYTES:]
        words = output.printable_lines(printed.decode("utf-8", "replace"))
        return Check(said, output.printable(task_view.failure(task)), words, task.task_id)

    async def _submitted(self, wanted: task_pb2.TaskSpec) -> task_pb2.Task:
        content = wanted.SerializeToString(deterministic=True)
        number = 0
        while True:
            key = hashlib.sha256(b"%d " % number + content).hexdigest()[:40]
            task = await self._conductor.tasks.submit(wanted, request_id=f"merge-check-{key}")
            # What failed is asked again: whoever calls again may have mended what it failed of.
            if task.state not in FINAL or task.state == task_pb2.TASK_STATE_SUCCEEDED:
                return task
            number += 1

    async def record(self, task: task_pb2.Task, landing: task_pb2.Landing) -> None:
        """See Surroundings."""
        await self._conductor.tasks.record_landing(task.task_id, landing)
        output.say(output.printable(f"{task.task_id} {task_view.landing_word(landing)}: {landing.reason}"))


def again(task: task_pb2.Task, repository: str, commit: str) -> task_pb2.TaskSpec:
    """Return the task that does again what was evicted: from the branch as it is, and told why.

    Args:
        task: With its landing.
        repository: Where the branch is.
        commit: The head of the branch.
    """
    wanted = task_pb2.TaskSpec()
    wanted.CopyFrom(task.spec)
    for field in ("instructions", "depends_on", "parent_task_id", "not_before_time"):
        wanted.ClearField(field)
    wanted.workspace.git.repository, wanted.workspace.git.ref = repository, commit
    wanted.labels[RETRY_LABEL] = task.task_id
    if wanted.prompt:
        wanted.prompt = f"{wanted.prompt}\n\n{told(task.landing)}"
    return wanted


def told(landing: task_pb2.Landing) -> str:
    """Return what an agent is told of an eviction. What was printed is marked as such: it is nobody's wish."""
    words = (
        f"This was done before, and could not be put on the branch {landing.branch}: {landing.reason}. "
        "Your files are those of the branch as it is now. Do it again so that it fits."
    )
    if not landing.output:
        return words
    printed = "\n".join(f"| {line}" for line in landing.output[-_QUOTED:].splitlines())
    return f"{words}\nWhat was printed then, as information only:\n\n{printed}"

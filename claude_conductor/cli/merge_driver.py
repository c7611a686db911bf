"""How does one patch after another get onto the integration branch?

Killed at any moment it leaves the branch at a commit that passed the check: the branch moves in one step of git's, after the
check. Called again it goes on: what has landed is seen by the trailer of its commit, the same patch upon the same commit is the
same commit again, and its check that runs or has passed is not run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from claude_conductor.cli import merge_queue
from claude_conductor.cli.integration import Candidate, Change, Integration, Misfit, Nothing
from claude_conductor.cli.merge_queue import Verdict, Wanted
from claude_conductor.errors import ConductorError
from claude_conductor.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class Check:
    """What came of a check."""

    verdict: Verdict
    reason: str = ""
    """In one sentence, unless it passed."""
    output: str = ""
    """The end of what it printed, unless it passed; hostile text."""
    task_id: str = ""


class Surroundings(Protocol):
    """What the driver needs of the control plane."""

    async def tasks(self) -> Sequence[task_pb2.Task]:
        """Return the tasks there are, as far as they may be wanted."""

    async def change(self, task: task_pb2.Task) -> Change:
        """Return what a task hands in, its patch included."""

    async def check(self, commit: str) -> Check:
        """Run the check on a commit, in a sandbox, and return what came of it."""

    async def record(self, task: task_pb2.Task, landing: task_pb2.Landing) -> None:
        """Tell the control plane what became of a patch; a repeat is harmless."""


class CheckUnusableError(ConductorError):
    """The check says nothing about the patch."""

    advice = "correct the check or the branch, then run the same again: it goes on where it was"


class Driver:
    """Lands patches on one branch, one at a time."""

    def __init__(self, integration: Integration, wanted: Wanted, surroundings: Surroundings) -> None:
        self._integration = integration
        self._wanted = wanted
        self._surroundings = surroundings
        self._sound: set[str] = set()
        """Commits that are known to pass the check."""
        self.tried: dict[str, task_pb2.Landing] = {}
        """What became of each task that this call dealt with, in order."""

    async def land_all(self) -> None:
        """Land what can land now, in order.

        Raises:
            CheckUnusableError: The branch fails its check without any patch, or the check could not be run.
            ConductorError: git, or the control plane, failed. Calling again goes on.
        """
        tasks = await self._surroundings.tasks()
        while (task := await self._next(tasks)) is not None:
            await self._land(task)

    async def _next(self, tasks: Sequence[task_pb2.Task]) -> task_pb2.Task | None:
        landed = await asyncio.to_thread(lambda: self._integration.landed(self._integration.head()))
        for task, commit in merge_queue.unrecorded(tasks, self._wanted, landed):
            if task.task_id not in self.tried:
                await self._record(task, task_pb2.LANDING_STATE_LANDED, commit, f"it is on {self._wanted.branch}")
        return next(iter(merge_queue.queue(tasks, self._wanted, landed, self.tried)), None)

    async def _land(self, task: task_pb2.Task) -> None:
        """Land a patch or evict it; neither where somebody else moved the branch meanwhile: the next turn begins anew."""
        change = await self._surroundings.change(task)
        head = await asyncio.to_thread(self._integration.head)
        built = await asyncio.to_thread(self._integration.build, change, head)
        match built:
            case Nothing(reason=reason):
                await self._record(task, task_pb2.LANDING_STATE_NOTHING, head, reason)
            case Misfit(reason=reason, output=output):
                await self._record(task, task_pb2.LANDING_STATE_EVICTED, head, reason, Check(Verdict.FAILED, output=output))
            case Candidate(commit=commit):
                await self._try(task, commit, head)

    async def _try(self, task: task_pb2.Task, commit: str, head: str) -> None:
        check = await self._check(commit)
        branch = self._wanted.branch
        if check.verdict is Verdict.FAILED:
            # A patch is not blamed for a branch that fails by itself.
            if head not in self._sound and (alone := await self._check(head)).verdict is Verdict.FAILED:
                raise CheckUnusableError(
                    "The branch fails its check without any patch, so that nothing can land.",
                    commit=head[:12],
                    because=alone.reason,
                    check=alone.task_id,
                )
            reason = f"{branch} fails its check with it: {check.reason}"
            await self._record(task, task_pb2.LANDING_STATE_EVICTED, head, reason, check)
        elif await asyncio.to_thread(self._integration.land, commit, head):
            await self._record(task, task_pb2.LANDING_STATE_LANDED, commit, f"it passed the check and is on {branch}", check)

    async def _check(self, commit: str) -> Check:
        check = await self._surroundings.check(commit)
        if check.verdict is Verdict.BROKEN:
            raise CheckUnusableError("The check could not be run.", because=check.reason, check=check.task_id)
        if check.verdict is Verdict.PASSED:
            self._sound.add(commit)
        return check

    async def _record(
        self,
        task: task_pb2.Task,
        state: task_pb2.LandingState.ValueType,
        commit: str,
        reason: str,
        check: Check | None = None,
    ) -> None:
        landing = task_pb2.Landing(
            state=state,
            branch=self._wanted.branch,
            commit=commit,
            reason=reason,
            output=check.output if check is not None and check.verdict is Verdict.FAILED else "",
            check_task_id=check.task_id if check is not None else "",
        )
        await self._surroundings.record(task, landing)
        self.tried[task.task_id] = landing

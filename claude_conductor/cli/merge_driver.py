"""How does one patch after another get onto the integration branch? Acts on what `merge_queue` decides.

Killed at any moment it leaves the branch at a commit that passed the check: the branch moves in one step of git's, after the
check. Called again it goes on: what has landed is seen by the trailer of its commit, and a check that runs is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from claude_conductor.cli import merge_queue
from claude_conductor.cli.integration import Candidate, Change, Integration, Misfit, Nothing
from claude_conductor.cli.merge_queue import Move, Verdict, Wanted
from claude_conductor.errors import ConductorError
from claude_conductor.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class Check:
    """What came of a check."""

    verdict: Verdict
    reason: str = ""
    """In one sentence, unless it passed."""
    output: str = ""
    """The end of what it printed; hostile text."""
    task_id: str = ""


class Surroundings(Protocol):
    """What the driver needs of the control plane."""

    async def tasks(self) -> Sequence[task_pb2.Task]:
        """Return the tasks there are, as far as they may be wanted."""

    async def change(self, task: task_pb2.Task) -> Change:
        """Return what a task hands in, its patch included."""

    async def check(self, commit: str, subject: task_pb2.Task) -> Check:
        """Run the check on a commit, in a sandbox, and return what came of it."""

    async def record(self, task: task_pb2.Task, landing: task_pb2.Landing) -> None:
        """Tell the control plane what became of a patch."""


class CheckUnusableError(ConductorError):
    """The check says nothing about the patch."""

    advice = "correct the check or the branch, then run `conductor merge` again: it goes on where it was"


class Driver:
    """Lands patches on one branch, one at a time."""

    def __init__(self, integration: Integration, wanted: Wanted, surroundings: Surroundings) -> None:
        self._integration = integration
        self._wanted = wanted
        self._surroundings = surroundings
        self._heads: dict[str, Check] = {}
        """What is known of commits that were the head."""
        self.tried: dict[str, task_pb2.Landing] = {}
        """What this call dealt with, in order."""

    async def land_all(self) -> None:
        """Land what can land now, in the order of submission.

        Raises:
            CheckUnusableError: The branch fails its check without any patch, or the check could not be run.
            ConductorError: git, or the control plane, failed. Calling again goes on.
        """
        while (task := await self._next()) is not None:
            await self._land(task)

    async def _next(self) -> task_pb2.Task | None:
        tasks = await self._surroundings.tasks()
        landed = await asyncio.to_thread(lambda: self._integration.landed(self._integration.head()))
        for task, commit in merge_queue.unrecorded(tasks, self._wanted, landed):
            if task.task_id not in self.tried:
                await self._record(task, task_pb2.LANDING_STATE_LANDED, commit, f"it is on {self._wanted.branch}")
        return next(iter(merge_queue.queue(tasks, self._wanted, landed, self.tried)), None)

    async def _land(self, task: task_pb2.Task) -> None:
        change = await self._surroundings.change(task)
        while True:
            head = await asyncio.to_thread(self._integration.head)
            if (commit := (await asyncio.to_thread(self._integration.landed, head)).get(task.task_id)) is not None:
                await self._record(task, task_pb2.LANDING_STATE_LANDED, commit, f"it is on {self._wanted.branch}")
                return
            built = await asyncio.to_thread(self._integration.build, change, head)
            match built:
                case Nothing(reason=reason):
                    await self._record(task, task_pb2.LANDING_STATE_NOTHING, head, reason)
                    return
                case Misfit(reason=reason, output=output):
                    await self._record(task, task_pb2.LANDING_STATE_EVICTED, head, reason, Check(Verdict.FAILED, output=output))
                    return
                case Candidate():
                    if await self._try(task, built, head):
                        return

    async def _try(self, task: task_pb2.Task, candidate: Candidate, head: str) -> bool:
        """Check and land, or evict; return False if the branch moved meanwhile, so that everything begins anew."""
        check: Check | None = None
        while True:
            known = self._heads.get(head)
            match merge_queue.move(check and check.verdict, known and known.verdict):
                case Move.CHECK:
                    check = await self._surroundings.check(candidate.commit, task)
                case Move.CHECK_HEAD:
                    self._heads[head] = await self._surroundings.check(head, task)
                case Move.LAND:
                    if not await asyncio.to_thread(self._integration.land, candidate, head):
                        return False
                    self._heads[candidate.commit] = check or Check(Verdict.PASSED)
                    about = f"it passed the check and is on {self._wanted.branch}"
                    await self._record(task, task_pb2.LANDING_STATE_LANDED, candidate.commit, about, check)
                    return True
                case Move.EVICT:
                    assert check is not None
                    reason = f"{self._wanted.branch} fails its check with it: {check.reason}"
                    await self._record(task, task_pb2.LANDING_STATE_EVICTED, head, reason, check)
                    return True
                case Move.STOP:
                    raise _stop(check, known, head)

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
            output=check.output if check is not None and state == task_pb2.LANDING_STATE_EVICTED else "",
            check_task_id=check.task_id if check is not None else "",
        )
        await self._surroundings.record(task, landing)
        self.tried[task.task_id] = landing


def _stop(check: Check | None, head: Check | None, commit: str) -> CheckUnusableError:
    if head is not None and head.verdict is Verdict.FAILED:
        return CheckUnusableError(
            "The branch fails its check without any patch, so that nothing can land.",
            commit=commit[:12],
            because=head.reason,
            check=head.task_id,
        )
    broken = check if check is not None and check.verdict is Verdict.BROKEN else head
    assert broken is not None
    return CheckUnusableError("The check could not be run.", because=broken.reason, check=broken.task_id)

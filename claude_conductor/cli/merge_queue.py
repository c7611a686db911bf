"""Which patch is next on its way to the integration branch, and what becomes of it? Pure.

Tasks come in, decisions go out; nothing is kept between calls, so that a driver that was killed goes on where the branch and the
tasks say that it is.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from claude_conductor.client.tasks import FINAL
from claude_conductor.v1 import task_pb2

CHECK_LABEL: Final = "conductor.merge"
"""Label of the tasks that check: its value is the task whose patch they check."""
LANDED: Final = task_pb2.LANDING_STATE_LANDED


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to land."""

    branch: str
    repository: str
    """Absolute path of its top folder."""
    task_ids: frozenset[str] = frozenset()
    """These; empty: every one of the repository that succeeded."""


def belongs(task: task_pb2.Task, wanted: Wanted) -> bool:
    """Tell whether a task is one whose patch is to land, once there is one."""
    if wanted.task_ids:
        return task.task_id in wanted.task_ids
    return task.spec.workspace.git.repository == wanted.repository and CHECK_LABEL not in task.spec.labels


def queue(tasks: Iterable[task_pb2.Task], wanted: Wanted, landed: Collection[str], tried: Collection[str]) -> list[task_pb2.Task]:
    """Return the tasks whose patches are still to land, in the order in which they were submitted (that of their ids).

    One that was evicted is tried again only if it is named.

    Args:
        tasks: What there is.
        wanted: What is to land.
        landed: Ids of tasks that the history of the branch names.
        tried: Ids of tasks that this call has dealt with.
    """
    found = [
        task
        for task in tasks
        if task.state == task_pb2.TASK_STATE_SUCCEEDED
        and belongs(task, wanted)
        and task.task_id not in landed
        and task.task_id not in tried
        and (task.task_id in wanted.task_ids or not _settled(task, wanted.branch))
    ]
    return sorted(found, key=lambda task: task.task_id)


def _settled(task: task_pb2.Task, branch: str) -> bool:
    """Tell whether it was dealt with on this branch. What landed, and is not in its history any more, was taken back there."""
    return task.HasField("landing") and task.landing.branch == branch


def unrecorded(tasks: Iterable[task_pb2.Task], wanted: Wanted, landed: Mapping[str, str]) -> list[tuple[task_pb2.Task, str]]:
    """Return tasks that are on the branch and do not know it, with their commits: their driver was killed between the two."""
    return [
        (task, landed[task.task_id])
        for task in sorted(tasks, key=lambda task: task.task_id)
        if task.task_id in landed
        and task.state == task_pb2.TASK_STATE_SUCCEEDED
        and belongs(task, wanted)
        and not (_settled(task, wanted.branch) and task.landing.state == LANDED)
    ]


def unfinished(tasks: Iterable[task_pb2.Task], wanted: Wanted) -> list[task_pb2.Task]:
    """Return the tasks that may have a patch to land later."""
    return [task for task in tasks if task.state not in FINAL and belongs(task, wanted)]


class Verdict(enum.Enum):
    """What a check says."""

    PASSED = enum.auto()
    FAILED = enum.auto()
    """The command ran and did not succeed."""
    BROKEN = enum.auto()
    """It could not be run to its end, which says nothing about what it was to check."""


_OF_THE_COMMAND: Final = frozenset(
    (
        task_pb2.FAILURE_KIND_EXIT_CODE,
        task_pb2.FAILURE_KIND_SIGNAL,
        task_pb2.FAILURE_KIND_OUT_OF_MEMORY,
        task_pb2.FAILURE_KIND_TIMEOUT,
        task_pb2.FAILURE_KIND_PROGRAM_MISSING,
    )
)


def verdict(check: task_pb2.Task) -> Verdict:
    """Return what a task that checked, and ended, says."""
    if check.state == task_pb2.TASK_STATE_SUCCEEDED:
        return Verdict.PASSED
    return Verdict.FAILED if check.result.failure.kind in _OF_THE_COMMAND else Verdict.BROKEN


class Move(enum.Enum):
    """What is to be done with the patch that is next."""

    CHECK = enum.auto()
    CHECK_HEAD = enum.auto()
    """Does the branch pass its check without it?"""
    LAND = enum.auto()
    EVICT = enum.auto()
    STOP = enum.auto()
    """Nothing can be said about any patch until somebody has looked."""


def move(candidate: Verdict | None, head: Verdict | None) -> Move:
    """Return the next move with a patch that fits, given what is known of both commits; None: nothing yet.

    A patch is not blamed for a branch that fails by itself, nor for a check that could not be run.
    """
    if candidate is Verdict.PASSED:
        return Move.LAND
    if Verdict.BROKEN in (candidate, head):
        return Move.STOP
    if candidate is None:
        return Move.CHECK
    if head is None:
        return Move.CHECK_HEAD
    return Move.EVICT if head is Verdict.PASSED else Move.STOP

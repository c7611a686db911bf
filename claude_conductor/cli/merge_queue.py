"""Which patch is next on its way to the integration branch, and what does a check say about it? Pure.

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

CHECK_LABEL: Final = "conductor.merge.check"
"""Label of the tasks that check: its value is the commit that they check."""
RETRY_LABEL: Final = "conductor.merge.retry"
"""Label of the tasks that do again what was evicted: its value is the task that handed that in."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to land."""

    branch: str
    repository: str
    """Absolute path of its top folder."""
    task_ids: tuple[str, ...] = ()
    """These, in this order; empty: every one of the repository, in the order in which they were submitted."""


def belonging(tasks: Iterable[task_pb2.Task], wanted: Wanted) -> list[task_pb2.Task]:
    """Return the tasks whose patches are to land, once there is one, in their order.

    A task that was submitted to do again what another one had handed in takes that one's place.
    """
    by_id = {task.task_id: task for task in tasks if CHECK_LABEL not in task.spec.labels}
    again = {task.spec.labels[RETRY_LABEL]: task for _, task in sorted(by_id.items()) if RETRY_LABEL in task.spec.labels}
    if wanted.task_ids:
        first = [by_id[task_id] for task_id in dict.fromkeys(wanted.task_ids) if task_id in by_id]
    else:
        mine = [task for _, task in sorted(by_id.items()) if task.spec.workspace.git.repository == wanted.repository]
        first = [task for task in mine if task.spec.labels.get(RETRY_LABEL, "") not in by_id]
    found = {}
    for task in first:
        last = task
        while (after := again.get(last.task_id)) is not None:
            last = after
        found[last.task_id] = last
    return list(found.values())


def done_again(tasks: Iterable[task_pb2.Task]) -> frozenset[str]:
    """Return the ids of tasks in whose place another one is."""
    return frozenset(task.spec.labels[RETRY_LABEL] for task in tasks if RETRY_LABEL in task.spec.labels)


def queue(tasks: Iterable[task_pb2.Task], wanted: Wanted, landed: Collection[str], tried: Collection[str]) -> list[task_pb2.Task]:
    """Return the tasks whose patches are still to land, in their order.

    What was evicted, and what landed and was taken back on the branch, is tried again only if it is named.

    Args:
        tasks: What there is.
        wanted: What is to land.
        landed: Ids of tasks that the history of the branch names.
        tried: Ids of tasks that this call has dealt with.
    """
    return [
        task
        for task in belonging(tasks, wanted)
        if task.state == task_pb2.TASK_STATE_SUCCEEDED
        and task.task_id not in landed
        and task.task_id not in tried
        and (wanted.task_ids or (task.result.patch_artefact_id and not dealt_with(task, wanted.branch)))
    ]


def dealt_with(task: task_pb2.Task, branch: str) -> bool:
    """Tell whether it was tried on this branch."""
    return task.HasField("landing") and task.landing.branch == branch


def unrecorded(tasks: Iterable[task_pb2.Task], wanted: Wanted, landed: Mapping[str, str]) -> list[tuple[task_pb2.Task, str]]:
    """Return tasks that are on the branch and do not know it, with their commits: their driver was killed between the two."""
    return [
        (task, landed[task.task_id])
        for task in belonging(tasks, wanted)
        if task.task_id in landed
        and task.state == task_pb2.TASK_STATE_SUCCEEDED
        and not (dealt_with(task, wanted.branch) and task.landing.state == task_pb2.LANDING_STATE_LANDED)
    ]


def unfinished(tasks: Iterable[task_pb2.Task], wanted: Wanted) -> list[task_pb2.Task]:
    """Return the tasks that may have a patch to land later."""
    return [task for task in belonging(tasks, wanted) if task.state not in FINAL]


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
        task_pb2.FAILURE_KIND_SETUP,
    )
)
"""A patch may be why. Whether it is, the branch without it says."""


def verdict(check: task_pb2.Task) -> Verdict:
    """Return what a task that checked, and ended, says."""
    if check.state == task_pb2.TASK_STATE_SUCCEEDED:
        return Verdict.PASSED
    ran = check.state != task_pb2.TASK_STATE_CANCELLED and check.result.failure.kind in _OF_THE_COMMAND
    return Verdict.FAILED if ran else Verdict.BROKEN

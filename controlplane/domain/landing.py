"""What became of a task's patch on its way to an integration branch?

Who lands patches tells it (`conductor merge`); the task keeps the last word. A patch that has landed on a branch stays landed
there.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from claude_conductor.errors import IllegalTransitionError

if TYPE_CHECKING:
    from controlplane.domain.task import Task


class LandingState(enum.Enum):
    """How it ended. The names are those of the proto's LandingState."""

    LANDED = "landed"
    """It is on the branch, and the branch passed its check with it."""
    EVICTED = "evicted"
    """It is not, and `reason` says why: a conflict, the check, the write set."""
    NOTHING = "nothing_to_land"
    """It changes nothing that the branch does not have already."""


@dataclass(frozen=True, slots=True)
class Landing:
    """The end of one try. `time` in seconds since the epoch."""

    state: LandingState
    branch: str
    commit: str
    """Hexadecimal: of LANDED the commit on the branch, else the head of the branch it was tried on."""
    reason: str
    output: str = ""
    """The conflict, or the end of what the check printed: hostile text."""
    check_task_id: str = ""
    """The task that ran the check."""
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class LandingTold:
    """Somebody tried to land its patch."""

    landing: Landing
    at: float


def told(task: Task, event: LandingTold) -> Task:
    """Return the task with the landing; the same task where it has it already.

    Raises:
        IllegalTransitionError: It did not succeed, or has landed on that branch and would be said not to have.
    """
    new, old = replace(event.landing, time=event.at), task.landing
    if task.state.value != "succeeded":
        raise IllegalTransitionError(
            "Only what a task that succeeded has changed can land.", task_id=task.id, state=task.state.value
        )
    if old is not None and replace(old, time=event.at) == new:
        return task
    if old is not None and old.state is LandingState.LANDED and old.branch == new.branch and new.state is not LandingState.LANDED:
        raise IllegalTransitionError("Its patch has landed on this branch already.", task_id=task.id, branch=old.branch)
    return replace(task, landing=new)

"""What became of a task's patch on its way to an integration branch?

Who lands patches tells it (`conductor merge`); the task keeps the last word. Which commits are on the branch, the branch knows.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


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

"""What does a task make of the word that its patch landed, or did not? Event in, the task as it stands then out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from claude_conductor.errors import IllegalTransitionError
from controlplane.domain.landing import Landing
from controlplane.domain.task import State, Task


@dataclass(frozen=True, slots=True)
class LandingTold:
    """Somebody tried to land its patch. `at` in seconds since the epoch."""

    landing: Landing
    at: float


def told(task: Task, event: LandingTold) -> Task:
    """Return the task with the landing; the very same task where it has it already.

    Raises:
        IllegalTransitionError: It did not succeed.
    """
    if task.state is not State.SUCCEEDED:
        raise IllegalTransitionError("Only the patch of a task that succeeded can land.", task_id=task.id, state=task.state.value)
    landing = replace(event.landing, time=event.at)
    if task.landing is not None and replace(task.landing, time=event.at) == landing:
        return task
    return replace(task, landing=landing)

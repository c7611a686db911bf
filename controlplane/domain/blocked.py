"""What does a task wait for that is not ready?"""

from __future__ import annotations

from datetime import UTC, datetime

from claude_conductor.ids import TaskId
from claude_conductor.units import format_duration
from controlplane.domain import attempts
from controlplane.domain.task import Task


def waiting_for(task: Task) -> str:
    """Return which tasks it waits for, in one sentence."""
    count = len(task.waits_for)
    return f"waits for {count} task{'s' if count > 1 else ''}: {', '.join(sorted(task.waits_for)[:3])}"


def only_follows(task: Task, other: TaskId) -> bool:
    """Tell whether it begins after the end of the other task, whatever came of that."""
    return other in task.spec.follows and other not in task.spec.depends_on


def why_blocked(task: Task, now: float) -> str:
    """Return in one sentence what a blocked task waits for, and until when. `now` in seconds since the epoch."""
    if task.waits_for or task.not_before <= now:
        return task.reason
    when = f"in {format_duration(task.not_before - now)}, at {datetime.fromtimestamp(task.not_before, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if task.result is not None and task.result.rate_limited is not None:
        return f"{attempts.LIMITED}; tries again {when}"
    if not task.failures:
        return f"starts {when}"
    last = task.attempts[-1].failure if task.attempts else None
    why = f" ({last.message})" if last is not None else ""
    return f"attempt {task.failures} of {task.spec.retry.max_attempts} failed{why}; tries again {when}"

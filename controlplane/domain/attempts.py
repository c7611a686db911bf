"""What is noted of a task's present hand-out, and when does the next one follow?"""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain.budget import Spent
from controlplane.domain.task import Failure, RetryPolicy, Task, Usage

LIMITED = "the model provider took no requests of its last attempt, which does not count"


def with_use(task: Task, usage: Usage) -> Task:
    """Return the task with what its attempt used by now; the same task where something later is known."""
    present = task.attempts[-1]
    if usage.wall_seconds <= present.usage.wall_seconds:
        return task
    return replace(task, attempts=(*task.attempts[:-1], replace(present, usage=usage)))


def close(task: Task, at: float, failure: Failure | None, usage: Usage | None) -> Task:
    """Return the task with its attempt at an end.

    Args:
        task: With an attempt.
        at: When it ended, in seconds since the epoch.
        failure: Why it failed; None: it did not.
        usage: What it used; None: nobody reported its end, so what was known of it counts, and the time it had its agent.
    """
    present = task.attempts[-1]
    claim = present.claim if usage is None else Spent()
    if usage is None:
        began = present.start_time if present.start_time is not None else present.lease_time
        usage = replace(present.usage, wall_seconds=max(present.usage.wall_seconds, at - began))
    ended = replace(present, end_time=at, failure=failure, usage=usage, claim=claim)
    return replace(task, attempts=(*task.attempts[:-1], ended))


def retry_delay(policy: RetryPolicy, failures: int, jitter: float) -> float:
    """Return the pause in seconds before the next attempt: doubling from `first_delay`, capped, then spread to 50-100 %."""
    full = min(policy.max_delay, policy.first_delay * 2 ** min(failures - 1, 30))
    return float(full * (0.5 + 0.5 * jitter))

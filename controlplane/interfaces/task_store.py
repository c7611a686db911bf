"""Where tasks live: insert once, read, and compare-and-set whole tasks the pure state machine made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from claude_conductor.errors import TaskNotFoundError
from claude_conductor.ids import TaskId, TenantId
from controlplane.domain.task import State, Task

REQUEST_SECONDS = 24 * 3600.0
"""How long a request id is remembered, counted from the creation of its task."""
SHORTEST_PREFIX = len("task_") + 8
"""Characters a prefix must have to stand for a task."""


def only_one(task_id: str, candidates: Sequence[Task]) -> Task:
    """Return the only task an id or prefix stands for.

    Raises:
        TaskNotFoundError: There is none or several; the message names up to five of these.
    """
    if not candidates:
        raise TaskNotFoundError(task_id=task_id)
    if len(candidates) > 1:
        names = ", ".join(sorted(task.id for task in candidates)[:5])
        raise TaskNotFoundError(
            f"Several tasks begin with this: {names}.", next_step="give more characters of the id", task_id=task_id
        )
    return candidates[0]


def requester(task: Task) -> str:
    """Return among whose request ids the task's is: those of its parent if an agent submitted it, else of its submitter.

    So a parent that is tried again by another agent finds the children it has, and two parents do not get into each other's way.
    """
    parent = task.spec.parent_task_id
    return f"task/{parent}" if parent and task.submitter.startswith("agent/") else task.submitter


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list; empty fields do not filter."""

    states: frozenset[State] = frozenset()
    parent_task_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    active_since: float = 0.0
    """Seconds since the epoch: tasks that ended earlier are left out. Compared in microseconds, which is how times travel."""

    def meets_end(self, task: Task) -> bool:
        """Tell whether the task has not ended, or not too early."""
        return task.end_time is None or round(task.end_time * 1e6) >= round(self.active_since * 1e6)


class TaskStore(Protocol):
    """Durable tasks. All methods may be called concurrently; each is atomic.

    A method that returns has made its change durable (to the degree of the backend). If it raises StoreUnavailableError nothing
    was changed, or (after a lost connection) the caller must read to know. Cancelling a call does not undo a change.
    """

    async def insert(self, task: Task) -> Task:
        """Store a new task, or return the one stored before under the same (tenant, `requester`, request_id) within 24 h.

        An empty request_id never matches. The caller compares specs: the store does not judge a re-used key.
        """

    async def insert_all(self, tasks: Sequence[Task]) -> Mapping[int, Task]:
        """Store new tasks, all of them; or none, if the requests of some stand for tasks that were stored before (see `insert`).

        No two of them have the same request.

        Returns:
            Those stored before, by the places of their requests in `tasks`; empty: all were stored.
        """

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        """Return a task of this tenant by id, or by a prefix of at least 13 characters (`task_` + 8) that only it has.

        Raises:
            TaskNotFoundError: None, or several for the prefix (the message says which).
        """

    async def save(self, task: Task) -> bool:
        """Replace the stored task if its version is `task.version - 1`; return whether it was."""

    async def ready(self, each: int) -> Sequence[Task]:
        """Return the first `each` QUEUED tasks of every lane, of all tenants, smallest `queue_order` first, ties by id.

        What it costs grows with what it returns, not with the length of the queue.
        """

    async def ahead(self, task: Task) -> int:
        """Return how many QUEUED tasks of the task's tenant have a smaller `queue_order`, or the same and a smaller id."""

    async def due(self, now: float, limit: int) -> Sequence[Task]:
        """Return BLOCKED tasks that wait for no other task and whose `not_before` is at or before `now`."""

    async def in_states(self, states: frozenset[State]) -> Sequence[Task]:
        """Return every task in one of these states, of all tenants, oldest first."""

    async def ended_before(self, time: float, limit: int) -> Sequence[Task]:
        """Return final tasks of all tenants whose `end_time` lies before this time, in the order of their creation."""

    async def remove(self, task_ids: Sequence[TaskId]) -> None:
        """Forget these tasks and the requests that made them. Harmless for one that is not there."""

    async def waiting_for(self, task_id: TaskId) -> Sequence[Task]:
        """Return the BLOCKED tasks whose `waits_for` has this task."""

    async def list(self, tenant_id: TenantId, wanted: TaskFilter, after: str, limit: int) -> Sequence[Task]:
        """Return tasks newest first (by id, descending), those with ids below `after` if it is not empty."""

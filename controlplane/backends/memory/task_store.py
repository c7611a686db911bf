"""Where tasks live when nothing has to survive the process."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence

from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError
from claude_conductor.ids import TaskId, TenantId
from controlplane.domain.task import State, Task, queue_order
from controlplane.interfaces.task_store import REQUEST_SECONDS, SHORTEST_PREFIX, TaskFilter, only_one, requester


class MemoryTaskStore:
    """A TaskStore in dictionaries. No method waits, so each is atomic."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[TaskId, Task] = {}
        self._by_state: dict[State, dict[TaskId, Task]] = {state: {} for state in State}
        self._lanes: dict[str, list[tuple[float, TaskId]]] = {}
        """The queued tasks of each lane, in order."""
        self._requests: dict[tuple[TenantId, str, str], TaskId] = {}

    async def insert(self, task: Task) -> Task:
        """See TaskStore."""
        earlier = await self.insert_all([task])
        return earlier.get(0, task)

    async def insert_all(self, tasks: Sequence[Task]) -> Mapping[int, Task]:
        """See TaskStore."""
        self._forget_requests()
        earlier = {place: found for place, task in enumerate(tasks) if (found := self._earlier(task)) is not None}
        if earlier:
            return earlier
        for task in tasks:
            if task.id in self._tasks:
                raise ConductorError("A task with this id is stored already.", task_id=task.id)
        for task in tasks:
            if task.request_id:
                self._requests[task.tenant_id, requester(task), task.request_id] = task.id
            self._put(task)
        return {}

    def _earlier(self, task: Task) -> Task | None:
        """Return the task stored under the same request."""
        earlier = self._tasks.get(self._requests.get((task.tenant_id, requester(task), task.request_id), TaskId("")))
        counts = task.request_id and earlier is not None and earlier.create_time > self._clock.now() - REQUEST_SECONDS
        return earlier if counts else None

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        """See TaskStore."""
        found = self._tasks.get(TaskId(task_id))
        if found is not None and found.tenant_id == tenant_id:
            return found
        long_enough = len(task_id) >= SHORTEST_PREFIX
        beginning = (task for task in self._tasks.values() if task.tenant_id == tenant_id and task.id.startswith(task_id))
        return only_one(task_id, list(beginning) if long_enough else [])

    async def save(self, task: Task) -> bool:
        """See TaskStore."""
        stored = self._tasks.get(task.id)
        if stored is None or stored.version != task.version - 1:
            return False
        self._take_out(stored)
        self._put(task)
        return True

    async def ready(self, each: int) -> Sequence[Task]:
        """See TaskStore."""
        heads = sorted(place for lane in self._lanes.values() for place in lane[:each])
        return [self._tasks[task_id] for _, task_id in heads]

    async def ahead(self, task: Task) -> int:
        """See TaskStore."""
        place = (queue_order(task), task.id)
        before = (task_id for lane in self._lanes.values() for _, task_id in lane[: bisect_left(lane, place)])
        return sum(self._tasks[task_id].tenant_id == task.tenant_id for task_id in before)

    async def due(self, now: float, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        due = [task for task in self._by_state[State.BLOCKED].values() if not task.waits_for and task.not_before <= now]
        return heapq.nsmallest(limit, due, key=lambda task: (task.not_before, task.id))

    async def in_states(self, states: frozenset[State]) -> Sequence[Task]:
        """See TaskStore."""
        wanted = [task for state in states for task in self._by_state[state].values()]
        return sorted(wanted, key=lambda task: (task.create_time, task.id))

    async def ended_before(self, time: float, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        final = (task for state in State if state.final for task in self._by_state[state].values())
        ended = (task for task in final if task.end_time is not None and task.end_time < time)
        return heapq.nsmallest(limit, ended, key=lambda task: (task.create_time, task.id))

    async def remove(self, task_ids: Sequence[TaskId]) -> None:
        """See TaskStore."""
        for task_id in task_ids:
            task = self._tasks.pop(task_id, None)
            if task is not None:
                self._take_out(task)
                key = (task.tenant_id, requester(task), task.request_id)
                if self._requests.get(key) == task_id:
                    del self._requests[key]

    async def waiting_for(self, task_id: TaskId) -> Sequence[Task]:
        """See TaskStore."""
        waiting = [task for task in self._by_state[State.BLOCKED].values() if task_id in task.waits_for]
        return sorted(waiting, key=lambda task: task.id)

    async def list(self, tenant_id: TenantId, wanted: TaskFilter, after: str, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        matching = (
            task
            for task in self._tasks.values()
            if task.tenant_id == tenant_id and (not after or task.id < after) and _matches(task, wanted)
        )
        return heapq.nlargest(limit, matching, key=lambda task: task.id)

    def _put(self, task: Task) -> None:
        self._tasks[task.id] = task
        self._by_state[task.state][task.id] = task
        if task.state is State.QUEUED:
            insort(self._lanes.setdefault(task.lane, []), (queue_order(task), task.id))

    def _take_out(self, task: Task) -> None:
        del self._by_state[task.state][task.id]
        if task.state is State.QUEUED:
            lane = self._lanes[task.lane]
            del lane[bisect_left(lane, (queue_order(task), task.id))]
            if not lane:
                del self._lanes[task.lane]

    def _forget_requests(self) -> None:
        horizon = self._clock.now() - REQUEST_SECONDS
        for key, task_id in list(self._requests.items()):  # in the order of their insertion
            if self._tasks[task_id].create_time > horizon:
                return
            del self._requests[key]


def _matches(task: Task, wanted: TaskFilter) -> bool:
    return (
        (not wanted.states or task.state in wanted.states)
        and (not wanted.parent_task_id or task.spec.parent_task_id == wanted.parent_task_id)
        and wanted.labels.items() <= task.spec.labels.items()
        and wanted.meets_end(task)
    )

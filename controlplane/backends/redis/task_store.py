"""Where tasks live in Redis: a body each, and sorted sets that have their ids under what is searched for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError, TaskNotFoundError
from claude_conductor.ids import TaskId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.redis.pipe import Argument
from controlplane.backends.redis.server import Server
from controlplane.domain.task import State, Task, queue_order
from controlplane.interfaces.task_store import REQUEST_SECONDS, SHORTEST_PREFIX, TaskFilter, only_one, requester

LOOKED_AT = 200
"""Tasks fetched at once while a list is filtered."""
REMOVED_AT_ONCE = 200


class RedisTaskStore:
    """A TaskStore; everything of a tenant's tasks is in one slot, so that each change is one step."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    async def insert(self, task: Task) -> Task:
        """See TaskStore."""
        earlier = await self.insert_all([task])
        return earlier.get(0, task)

    async def insert_all(self, tasks: Sequence[Task]) -> Mapping[int, Task]:
        """See TaskStore. They are of one tenant."""
        if not tasks:
            return {}
        (tenant,) = {task.tenant_id for task in tasks}
        await self._server.know(tenant)
        horizon = repr(self._clock.now() - REQUEST_SECONDS)
        stored = [
            part for task in tasks for part in (task.id, encode(task), _places(task), _request(task), repr(task.create_time))
        ]
        word, *found = await self._server.change("insert_tasks", _tag(tenant), horizon, *stored)
        if word == b"known":
            raise ConductorError("A task with this id is stored already.", task_id=found[0].decode())
        return {found[at]: _task(found[at + 1]) for at in range(0, len(found), 2)}

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        """See TaskStore."""
        try:
            start = task_id.encode()
        except UnicodeEncodeError as cause:
            raise TaskNotFoundError(task_id=task_id) from cause
        end = start + b"\xff" if len(task_id) >= SHORTEST_PREFIX else start
        found = await self._read(tenant_id, "ZRANGEBYLEX", 6, b"[" + start, b"[" + end, "ids")
        return only_one(task_id, [task for task in found if task.id == task_id] or found)

    async def save(self, task: Task) -> bool:
        """See TaskStore."""
        changed = (task.id, encode(task), _places(task), task.version - 1)
        return bool(await self._server.change("save_task", _tag(task.tenant_id), *changed))

    async def ready(self, each: int) -> Sequence[Task]:
        """See TaskStore."""
        found: list[tuple[float, bytes, bytes]] = []
        for tenant in await self._server.tenants():
            heads = await self._server.look("heads", _tag(tenant), each)
            found += [(float(heads[at]), heads[at + 1], heads[at + 2]) for at in range(0, len(heads), 3)]
        of_lane: Counter[str] = Counter()  # a lane may have tasks of several tenants
        first: list[Task] = []
        for _, _, body in sorted(found):
            task = _task(body)
            of_lane[task.lane] += 1
            if of_lane[task.lane] <= each:
                first.append(task)
        return first

    async def ahead(self, task: Task) -> int:
        """See TaskStore."""
        count, *twins = await self._server.look("ahead", _tag(task.tenant_id), repr(queue_order(task)))
        return int(count) + len([twin for twin in twins if twin < task.id.encode()])

    async def due(self, now: float, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        found = await self._everywhere("ZRANGEBYSCORE", limit, "-inf", repr(now), "due")
        return sorted(found, key=lambda task: (task.not_before, task.id))[:limit]

    async def in_states(self, states: frozenset[State]) -> Sequence[Task]:
        """See TaskStore."""
        found = await self._everywhere("ZRANGEBYLEX", 0, "-", "+", *(f"state:{state.value}" for state in states))
        return sorted(found, key=lambda task: (task.create_time, task.id))

    async def ended_before(self, time: float, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        ended: list[tuple[bytes, str]] = []
        for tenant in await self._server.tenants():
            ids = await self._server.ask("ZRANGEBYSCORE", self._server.key(_tag(tenant), "ended"), "-inf", f"({time!r}")
            ended += [(task_id, tenant) for task_id in ids]
        found: list[Task] = []
        for task_id, tenant in sorted(ended)[:limit]:  # ids are in the order of creation
            found += await self._read(tenant, "ZRANGEBYLEX", 1, b"[" + task_id, b"[" + task_id, "ids")
        return [task for task in found if task.end_time is not None and task.end_time < time]

    async def remove(self, task_ids: Sequence[TaskId]) -> None:
        """See TaskStore."""
        for tenant in await self._server.tenants():
            for start in range(0, len(task_ids), REMOVED_AT_ONCE):
                await self._server.change("remove_tasks", _tag(tenant), *task_ids[start : start + REMOVED_AT_ONCE])

    async def waiting_for(self, task_id: TaskId) -> Sequence[Task]:
        """See TaskStore."""
        found = await self._everywhere("ZRANGEBYLEX", 0, "-", "+", f"waiting:{task_id}")
        return sorted(found, key=lambda task: task.id)

    async def list(self, tenant_id: TenantId, wanted: TaskFilter, after: str, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        indexes = _indexes(wanted)
        found: list[Task] = []
        end = b"(" + after.encode(errors="replace") if after else b"+"
        while len(found) < limit:
            # Of each index the last few before the end: the last few of all are among them.
            each = await self._read(tenant_id, "ZREVRANGEBYLEX", LOOKED_AT, end, "-", *indexes)
            seen = sorted(each, key=lambda task: task.id, reverse=True)[:LOOKED_AT]
            found += [task for task in seen if _meets(task, wanted)]
            if len(seen) < LOOKED_AT:
                break
            end = b"(" + seen[-1].id.encode()
        return found[:limit]

    async def _everywhere(self, how: str, limit: int, start: Argument, end: Argument, *indexes: str) -> Sequence[Task]:
        if not indexes:
            return []
        return [
            task for tenant in await self._server.tenants() for task in await self._read(tenant, how, limit, start, end, *indexes)
        ]

    async def _read(self, tenant: str, how: str, limit: int, start: Argument, end: Argument, *indexes: str) -> Sequence[Task]:
        return [_task(body) for body in await self._server.look("bodies", _tag(tenant), how, limit, start, end, *indexes)]


DECODED_BYTES = 8192
"""Size up to which decoded tasks are remembered: the head of the queue is read again and again."""


def _task(body: bytes) -> Task:
    return _remembered(body) if len(body) <= DECODED_BYTES else decode(Task, body.decode())


@lru_cache(maxsize=1024)
def _remembered(body: bytes) -> Task:
    return decode(Task, body.decode())


def _tag(tenant: str) -> str:
    return f"t:{tenant}"


def _request(task: Task) -> str:
    return f"{requester(task)}\0{task.request_id}" if task.request_id else ""


def _places(task: Task) -> str:
    """Return where the id of the task stands: version, request, and [index, score] each, as JSON."""
    places: list[tuple[str, str]] = [("ids", "0"), (f"state:{task.state.value}", "0")]
    if task.state is State.QUEUED:
        order = repr(queue_order(task))
        places += [("queued", order), (f"lane:{task.lane}", order)]
    if task.state is State.BLOCKED:
        places += [(f"waiting:{dependency}", "0") for dependency in task.waits_for] or [("due", repr(task.not_before))]
    if task.spec.parent_task_id:
        places.append((f"parent:{task.spec.parent_task_id}", "0"))
    if task.state.final and task.end_time is not None:
        places.append(("ended", repr(task.end_time)))
    return json.dumps([task.version, _request(task), *places], separators=(",", ":"))


def _indexes(wanted: TaskFilter) -> list[str]:
    """Return the indexes that have every task that is wanted, and the fewest others."""
    if wanted.parent_task_id:
        return [f"parent:{wanted.parent_task_id}"]
    return sorted(f"state:{state.value}" for state in wanted.states) or ["ids"]


def _meets(task: Task, wanted: TaskFilter) -> bool:
    return (
        (not wanted.states or task.state in wanted.states)
        and wanted.labels.items() <= dict(task.spec.labels).items()
        and wanted.meets_end(task)
    )

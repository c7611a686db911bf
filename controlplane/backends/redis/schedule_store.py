"""Where schedules live in Redis: a body each, and sorted sets of their names and of when they fire next."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.errors import ScheduleNotFoundError
from claude_conductor.ids import ScheduleId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.redis.pipe import Argument
from controlplane.backends.redis.server import Server
from controlplane.domain.schedule import Schedule


class RedisScheduleStore:
    """A ScheduleStore; the schedules of a tenant are in the slot of its tasks."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def insert(self, schedule: Schedule) -> Schedule:
        """See ScheduleStore."""
        await self._server.know(schedule.tenant_id)
        earlier = await self._server.change("insert_schedule", _tag(schedule.tenant_id), *_written(schedule), schedule.name)
        return schedule if earlier is None else _schedule(earlier)

    async def get(self, tenant_id: TenantId, name: str) -> Schedule:
        """See ScheduleStore."""
        for found in await self._find(tenant_id, "one", name):
            return found
        raise ScheduleNotFoundError(schedule=name)

    async def save(self, schedule: Schedule) -> bool:
        """See ScheduleStore."""
        return bool(await self._server.change("save_schedule", _tag(schedule.tenant_id), *_written(schedule)))

    async def remove(self, tenant_id: TenantId, schedule_id: ScheduleId) -> bool:
        """See ScheduleStore."""
        found = [schedule for schedule in await self._find(tenant_id, "one", schedule_id) if schedule.id == schedule_id]
        if not found:
            return False
        return bool(await self._server.change("remove_schedule", _tag(tenant_id), schedule_id, found[0].name))

    async def due(self, now: float, limit: int) -> Sequence[Schedule]:
        """See ScheduleStore."""
        found = [
            schedule for tenant in await self._server.tenants() for schedule in await self._find(tenant, "due", repr(now), limit)
        ]
        return sorted(found, key=lambda schedule: (schedule.next_time, schedule.id))[:limit]

    async def next_time(self) -> float | None:
        """See ScheduleStore."""
        times: list[float] = []
        for tenant in await self._server.tenants():
            key = self._server.key(_tag(tenant), "schedule_times")
            times += [float(time) for time in (await self._server.ask("ZRANGE", key, 0, 0, "WITHSCORES"))[1::2]]
        return min(times, default=None)

    async def list(self, tenant_id: TenantId, after: str, limit: int) -> Sequence[Schedule]:
        """See ScheduleStore."""
        return await self._find(tenant_id, "after", after, limit)

    async def _find(self, tenant: str, *which: Argument) -> Sequence[Schedule]:
        return [_schedule(body) for body in await self._server.look("find_schedules", _tag(tenant), *which)]


def _tag(tenant: str) -> str:
    return f"t:{tenant}"


def _written(schedule: Schedule) -> Sequence[Argument]:
    time = "" if schedule.next_time is None else repr(schedule.next_time)
    return schedule.id, encode(schedule), schedule.version, time


def _schedule(body: bytes) -> Schedule:
    return decode(Schedule, body.decode())

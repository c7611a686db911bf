"""Where schedules live when nothing has to survive the process."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from claude_conductor.errors import ScheduleNotFoundError
from claude_conductor.ids import ScheduleId, TenantId
from controlplane.domain.schedule import Schedule


class MemoryScheduleStore:
    """A ScheduleStore in a dictionary. No method waits, so each is atomic."""

    def __init__(self) -> None:
        self._schedules: dict[tuple[TenantId, str], Schedule] = {}

    async def insert(self, schedule: Schedule) -> Schedule:
        """See ScheduleStore."""
        return self._schedules.setdefault((schedule.tenant_id, schedule.name), schedule)

    async def get(self, tenant_id: TenantId, name: str) -> Schedule:
        """See ScheduleStore."""
        found = self._schedules.get((tenant_id, name)) or self._by_id(tenant_id, name)
        if found is None:
            raise ScheduleNotFoundError(schedule=name)
        return found

    async def save(self, schedule: Schedule) -> bool:
        """See ScheduleStore."""
        stored = self._by_id(schedule.tenant_id, schedule.id)
        if stored is None or stored.version != schedule.version - 1:
            return False
        self._schedules[stored.tenant_id, stored.name] = schedule
        return True

    async def remove(self, tenant_id: TenantId, schedule_id: ScheduleId) -> bool:
        """See ScheduleStore."""
        found = self._by_id(tenant_id, schedule_id)
        if found is not None:
            del self._schedules[tenant_id, found.name]
        return found is not None

    async def due(self, now: float, limit: int) -> Sequence[Schedule]:
        """See ScheduleStore."""
        due = [each for each in self._schedules.values() if each.next_time is not None and each.next_time <= now]
        return heapq.nsmallest(limit, due, key=lambda each: (each.next_time, each.id))

    async def next_time(self) -> float | None:
        """See ScheduleStore."""
        return min((each.next_time for each in self._schedules.values() if each.next_time is not None), default=None)

    async def list(self, tenant_id: TenantId, after: str, limit: int) -> Sequence[Schedule]:
        """See ScheduleStore."""
        names = sorted(name for tenant, name in self._schedules if tenant == tenant_id and name > after)
        return [self._schedules[tenant_id, name] for name in names[:limit]]

    def _by_id(self, tenant_id: TenantId, schedule_id: str) -> Schedule | None:
        return next((each for each in self._schedules.values() if (each.tenant_id, each.id) == (tenant_id, schedule_id)), None)

"""Where schedules live: insert once, read, and compare-and-set whole schedules the domain made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from claude_conductor.ids import ScheduleId, TenantId
from controlplane.domain.schedule import Schedule


class ScheduleStore(Protocol):
    """Durable schedules. All methods may be called concurrently; each is atomic.

    A method that returns has made its change durable. If it raises StoreUnavailableError nothing was changed, or (after a lost
    connection) the caller must read to know.
    """

    async def insert(self, schedule: Schedule) -> Schedule:
        """Store a new schedule and return it, or the one of this tenant that has its name already."""

    async def get(self, tenant_id: TenantId, name: str) -> Schedule:
        """Return a schedule of this tenant by its name or its whole id.

        Raises:
            ScheduleNotFoundError: There is none.
        """

    async def save(self, schedule: Schedule) -> bool:
        """Replace the stored schedule if its version is `schedule.version - 1`; return whether it was. Its name never changes."""

    async def remove(self, tenant_id: TenantId, schedule_id: ScheduleId) -> bool:
        """Forget a schedule; return whether it was there."""

    async def due(self, now: float, limit: int) -> Sequence[Schedule]:
        """Return schedules of all tenants whose `next_time` is at or before `now`, the earliest first."""

    async def next_time(self) -> float | None:
        """Return the earliest `next_time` of all tenants, in seconds since the epoch; None if nothing fires."""

    async def list(self, tenant_id: TenantId, after: str, limit: int) -> Sequence[Schedule]:
        """Return schedules by name, those with names above `after`."""

"""The audit chain, as long as the process lives."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.audit_chain import Head, Record


class MemoryAuditStore:
    """An AuditStore in a list. No method waits, so each is atomic."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._heads: dict[int, Head] = {}

    async def append(self, records: Sequence[Record]) -> bool:
        """See AuditStore."""
        if records and records[0].number != len(self._records) + 1:
            return False
        self._records += records
        return True

    async def state(self, head: Head) -> None:
        """See AuditStore."""
        self._heads[head.number] = head

    async def read(self, after: int, limit: int) -> Sequence[Record]:
        """See AuditStore."""
        return self._records[after : after + limit]

    async def newest(self) -> Record | None:
        """See AuditStore."""
        return self._records[-1] if self._records else None

    async def heads(self) -> Sequence[Head]:
        """See AuditStore."""
        return [self._heads[number] for number in sorted(self._heads)]

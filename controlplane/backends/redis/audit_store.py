"""The audit chain in Redis: a list whose places are the numbers of its records, and the heads by number."""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor.audit_chain import Head, Record
from controlplane.backends.codec import decode, encode
from controlplane.backends.redis.server import Server

_TAG = "a"


class RedisAuditStore:
    """An AuditStore; one chain over all tenants, in one slot."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._records = server.key(_TAG, "records")
        self._heads = server.key(_TAG, "heads")

    async def append(self, records: Sequence[Record]) -> bool:
        """See AuditStore."""
        if not records:
            return True
        bodies = (encode(record) for record in records)
        return bool(await self._server.change("append_audit", _TAG, records[0].number, *bodies))

    async def state(self, head: Head) -> None:
        """See AuditStore."""
        await self._server.write("HSET", self._heads, head.number, encode(head))

    async def read(self, after: int, limit: int) -> Sequence[Record]:
        """See AuditStore."""
        if limit <= 0:
            return []
        first = max(0, after)
        bodies = await self._server.ask("LRANGE", self._records, first, first + limit - 1)
        return [decode(Record, body.decode()) for body in bodies]

    async def newest(self) -> Record | None:
        """See AuditStore."""
        bodies = await self._server.ask("LRANGE", self._records, -1, -1)
        return decode(Record, bodies[0].decode()) if bodies else None

    async def heads(self) -> Sequence[Head]:
        """See AuditStore."""
        bodies = await self._server.ask("HVALS", self._heads)
        return sorted((decode(Head, body.decode()) for body in bodies), key=lambda head: head.number)

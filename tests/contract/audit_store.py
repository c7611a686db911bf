"""What every AuditStore does. A backend's test class inherits this and gives the fixture `audit`."""

from __future__ import annotations

import asyncio

from claude_conductor.audit_chain import Head, Record
from controlplane.interfaces.audit_store import AuditStore


def record(number: int, action: str = "SubmitTask") -> Record:
    return Record(number, 1.25 * number, "default", "operator", action, "ok", f"task_{number}", f"{number:064x}")


def head(number: int, signature: str = "ab") -> Head:
    return Head(number, f"{number:064x}", 7.5, signature)


class AuditStoreContract:
    async def test_records_come_back_as_they_were_in_order(self, audit: AuditStore) -> None:
        assert await audit.newest() is None
        assert list(await audit.read(0, 10)) == []
        assert await audit.append([record(1)])
        assert await audit.append([record(2), record(3)])
        assert list(await audit.read(0, 10)) == [record(1), record(2), record(3)]
        assert list(await audit.read(1, 1)) == [record(2)]
        assert await audit.newest() == record(3)

    async def test_a_number_is_taken_once(self, audit: AuditStore) -> None:
        got = await asyncio.gather(*(audit.append([record(1, f"writer {number}")]) for number in range(20)))
        assert sum(got) == 1
        assert not await audit.append([record(1, "late"), record(2)])
        assert not await audit.append([record(3)])  # one is missing before it
        assert len(await audit.read(0, 10)) == 1

    async def test_heads_come_by_number_and_the_last_one_of_a_number_wins(self, audit: AuditStore) -> None:
        for each in (head(5), head(2), head(5, "cd")):
            await audit.state(each)
        assert list(await audit.heads()) == [head(2), head(5, "cd")]

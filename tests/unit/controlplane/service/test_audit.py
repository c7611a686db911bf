"""Records get into the chain in order, together, and a flood of refusals does not fill it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from claude_conductor.audit_chain import Record, first_flaw
from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.memory.audit_store import MemoryAuditStore
from controlplane.service.audit import Audit, Note
from tests.contract.samples import HandClock


async def sign(text: bytes) -> str:
    return text.hex()


def note(number: int, outcome: str = "ok") -> Note:
    return Note("default", "operator", "SubmitTask", outcome, f"task_{number}")


class Store(MemoryAuditStore):
    broken = False

    async def append(self, records: list[Record]) -> bool:  # type: ignore[override]
        if self.broken:
            raise StoreUnavailableError
        return await super().append(records)


@pytest.fixture
async def made() -> AsyncIterator[tuple[Audit, Store, HandClock]]:
    store, clock = Store(), HandClock()
    audit = Audit(store, sign, clock)
    task = asyncio.create_task(audit.run())
    yield audit, store, clock
    task.cancel()


async def test_records_are_linked_in_the_order_of_the_calls(made: tuple[Audit, Store, HandClock]) -> None:
    audit, store, _ = made
    await asyncio.gather(*(audit.written(note(number)) for number in range(500)))
    found = await store.read(0, 1000)
    assert [each.target for each in found] == [f"task_{number}" for number in range(500)]
    head = await audit.state()
    assert head is not None
    assert head.number == 500
    assert await audit.state() == head  # nothing new: nothing is signed again
    assert first_flaw(found, [head], lambda each: each.number == 500) is None


async def test_who_writes_beside_us_does_not_break_the_chain(made: tuple[Audit, Store, HandClock]) -> None:
    audit, store, clock = made
    other = Audit(store, sign, clock)
    task = asyncio.create_task(other.run())
    for number in range(10):
        await asyncio.gather(audit.written(note(number)), other.written(note(100 + number)))
    found = await store.read(0, 100)
    assert len(found) == 20
    assert first_flaw(found, [], lambda _: True) is None
    task.cancel()


async def test_the_same_refusal_is_written_once_a_minute_and_counted(made: tuple[Audit, Store, HandClock]) -> None:
    audit, store, clock = made
    for _ in range(50):
        audit.told(note(1, "UNAUTHENTICATED"))
    audit.told(note(2, "UNAUTHENTICATED"))
    await audit.written(note(3))
    found = await store.read(0, 100)
    assert [(each.action, each.target) for each in found] == [
        *(("SubmitTask", f"task_{number}") for number in (1, 2, 3)),
        ("audit.left_out", "49 refusals"),
    ]
    clock.pass_(61)
    audit.told(note(1, "UNAUTHENTICATED"))
    await audit.written(note(4))
    assert [each.target for each in await store.read(4, 10)] == ["task_1", "task_4"]


async def test_a_store_that_takes_no_writes_fails_the_call_and_its_record_is_written_later(
    made: tuple[Audit, Store, HandClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.service.audit.STORE_PAUSE", 0.01)
    audit, store, _ = made
    store.broken = True
    with pytest.raises(StoreUnavailableError):
        await audit.written(note(1))
    store.broken = False
    await audit.written(note(2))
    assert [each.target for each in await store.read(0, 10)] == ["task_1", "task_2"]  # what it tells of has happened


async def test_nothing_is_signed_while_there_is_nothing(made: tuple[Audit, Store, HandClock]) -> None:
    audit, store, _ = made
    assert await audit.state() is None
    assert list(await store.heads()) == []

"""Events reach the log and those who watch, whatever their pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.domain.events import Event
from controlplane.service import watch as module
from controlplane.service.watch import Gap, Wanted, Watch

ALL = Wanted("default")


def event(number: int, **fields: str) -> Event:
    return Event(f"task.{number}", float(number), "", **fields)  # type: ignore[arg-type]


async def take(stream: AsyncIterator[Event | Gap], count: int) -> list[Event | Gap]:
    async with asyncio.timeout(5):
        return [await anext(stream) for _ in range(count)]


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    watch = Watch(MemoryEventLog())
    running = asyncio.create_task(watch.run(), name="watch")
    yield watch
    running.cancel()


async def test_a_watcher_reads_what_is_kept_and_goes_on_with_what_happens(watch: Watch) -> None:
    watch.publish(event(1))
    await watch.flush()
    stream = watch.follow(0, ALL)
    (first,) = await take(stream, 1)
    watch.publish(event(2))
    (second,) = await take(stream, 1)
    assert [one.type for one in (first, second) if isinstance(one, Event)] == ["task.1", "task.2"]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_without_a_cursor_only_new_events_are_seen(watch: Watch) -> None:
    watch.publish(event(1))
    await watch.flush()
    stream = watch.follow(None, ALL)
    waiting = asyncio.create_task(take(stream, 1), name="take")
    while not len(watch._pulse):  # noqa: ASYNC110 - nothing tells when a generator begins to wait
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    watch.publish(event(2))
    (seen,) = await waiting
    assert isinstance(seen, Event)
    assert seen.type == "task.2"


async def test_a_watcher_that_was_away_too_long_is_told_what_it_missed() -> None:
    watch = Watch(MemoryEventLog(kept=3))
    watch._recent = module.deque(maxlen=2)
    for number in range(1, 11):
        watch.publish(event(number))
    await watch.flush()
    gap, *events = await take(watch.follow(2, ALL), 4)
    assert gap == Gap(3, 7)
    assert [one.cursor for one in events if isinstance(one, Event)] == [8, 9, 10]


async def test_a_slow_watcher_costs_no_memory_and_loses_nothing_that_is_kept() -> None:
    watch = Watch(MemoryEventLog())
    stream = watch.follow(0, ALL)
    for number in range(1, 3001):
        watch.publish(event(number))
        if number == 1:
            await watch.flush()
            await take(stream, 1)
    await watch.flush()
    assert len(watch._recent) == 1024
    rest = await take(stream, 2999)
    assert [one.cursor for one in rest if isinstance(one, Event)] == list(range(2, 3001))


async def test_filters_hide_the_events_of_others(watch: Watch) -> None:
    for fields in ({"task_id": "task_1"}, {"task_id": "task_2"}, {"tenant_id": "other", "task_id": "task_1"}):
        watch.publish(event(1, **fields))
    watch.publish(Event("agent.idle", 0.0, "", task_id="task_1"))
    await watch.flush()
    stream = watch.follow(0, Wanted("default", ("task.",), "task_1"))
    watch.publish(event(9, task_id="task_1"))
    seen = await take(stream, 2)
    assert [one.cursor for one in seen if isinstance(one, Event)] == [1, 5]


class Stubborn(MemoryEventLog):
    """Refuses the first append."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 1

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailableError
        return await super().append(events)


async def test_events_wait_for_a_store_that_is_away() -> None:
    watch = Watch(Stubborn())
    watch.publish(event(1))
    await watch.flush()
    (seen,) = await take(watch.follow(0, ALL), 1)
    assert isinstance(seen, Event)
    assert watch.dropped == 0


class CountingLog(MemoryEventLog):
    """Remembers how many events came together."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []

    async def append(self, events: Sequence[Event]) -> Sequence[Event]:
        self.appends.append(len(events))
        return await super().append(events)


async def test_events_of_a_moment_are_appended_together() -> None:
    log = CountingLog()
    watch = Watch(log)
    stream = watch.follow(0, ALL)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watch.run(), name="watch")
        for number in range(6):
            watch.publish(event(number))
            await asyncio.sleep(0)  # the writer has had its turn after each
        await take(stream, 6)
        assert log.appends == [6]
        running.cancel()
    await stream.aclose()  # type: ignore[attr-defined]

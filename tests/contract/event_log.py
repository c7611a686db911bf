"""What every EventLog does. A backend's test class inherits this and gives the fixture `events`, a log that keeps 10."""

from __future__ import annotations

import asyncio

from controlplane.domain.events import Event
from controlplane.interfaces.event_log import EventLog
from tests.contract.samples import START

KEPT = 10


def event(number: int) -> Event:
    return Event("task.queued", START + number, f"event {number}", task_id="task_1", details={"number": str(number)})


class EventLogContract:
    async def test_an_empty_log_says_so(self, events: EventLog) -> None:
        assert await events.bounds() == (1, 0)
        assert await events.read(0, 10) == []
        assert await events.append([]) == []

    async def test_cursors_start_at_one_and_grow_by_one(self, events: EventLog) -> None:
        first = await events.append([event(1), event(2)])
        second = await events.append([event(3)])
        assert [one.cursor for one in (*first, *second)] == [1, 2, 3]
        assert list(await events.read(0, 10)) == [*first, *second]
        assert first[0].details == {"number": "1"}

    async def test_reading_goes_on_after_a_cursor_in_pages(self, events: EventLog) -> None:
        await events.append([event(number) for number in range(5)])
        assert [one.cursor for one in await events.read(2, 2)] == [3, 4]
        assert [one.cursor for one in await events.read(4, 2)] == [5]
        assert await events.read(5, 2) == []
        assert await events.read(99, 2) == []

    async def test_the_oldest_beyond_the_bound_are_dropped_and_cursors_go_on(self, events: EventLog) -> None:
        for number in range(KEPT + 3):
            await events.append([event(number)])
        assert await events.bounds() == (4, KEPT + 3)
        assert [one.cursor for one in await events.read(0, 2)] == [4, 5]

    async def test_one_call_may_bring_more_than_is_kept(self, events: EventLog) -> None:
        placed = await events.append([event(number) for number in range(3 * KEPT)])
        assert placed[-1].cursor == 3 * KEPT
        assert await events.bounds() == (2 * KEPT + 1, 3 * KEPT)

    async def test_appends_at_once_never_share_a_cursor(self, events: EventLog) -> None:
        placed = await asyncio.gather(*(events.append([event(number), event(number)]) for number in range(50)))
        assert sorted(one.cursor for pair in placed for one in pair) == list(range(1, 101))
        assert all(second.cursor == first.cursor + 1 for first, second in placed)

"""What does not wait goes to who listens, within a bound that no slow listener of many widens."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from controlplane.domain.message import StoredFrame
from controlplane.service.live import LIVE_BYTES, LIVE_FRAMES, Live

BOX = "default/operator"


def passing(size: int = 10, number: int = 0) -> StoredFrame:
    return StoredFrame(BOX, "agent/a", "note", number.to_bytes(16, "big"), 0, b"x" * size, 0, first_position=0, attempt=1)


def test_nobody_listens_until_somebody_does_and_no_longer_than_that() -> None:
    live, news = Live(), asyncio.Event()
    assert live.room(BOX) is None
    with live.listen(BOX, news):
        assert live.room(BOX) == LIVE_BYTES
        assert live.room("default/other") is None
    assert live.room(BOX) is None


def test_everybody_who_listens_gets_each_frame_once_in_order() -> None:
    live, news = Live(), [asyncio.Event(), asyncio.Event()]
    with live.listen(BOX, news[0]) as first, live.listen(BOX, news[1]) as second:
        for number in range(3):
            live.hand(passing(number=number))
        assert all(each.is_set() for each in news)
        for waiting in (first, second):
            assert [frame.message_ids[-1] for frame in waiting.take()] == [0, 1, 2]
            assert waiting.take() == []


def test_a_listener_that_is_full_misses_what_the_others_get() -> None:
    live = Live()
    with ExitStack() as stack:
        slow, quick = (stack.enter_context(live.listen(BOX, asyncio.Event())) for _ in range(2))
        live.hand(passing(LIVE_BYTES))
        assert live.room(BOX) == 0
        assert len(quick.take()) == 1
        assert live.room(BOX) == LIVE_BYTES
        live.hand(passing(LIVE_BYTES + 1))  # larger than all the room: alone it fits
        assert (len(slow.take()), len(quick.take())) == (1, 1)


def test_small_frames_are_counted_too() -> None:
    live = Live()
    with live.listen(BOX, asyncio.Event()) as waiting:
        for _ in range(LIVE_FRAMES + 5):
            live.hand(passing(1))
        assert live.room(BOX) == 0
        assert len(waiting.take()) == LIVE_FRAMES

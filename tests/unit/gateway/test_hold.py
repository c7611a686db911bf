"""What is held back while the provider takes no requests, and who goes first afterwards."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from agent_sidecar.gateway.hold import Hold
from agent_sidecar.gateway.provider import provider_at
from claude_conductor.clock import SystemClock
from claude_conductor.settings.secret import Secret


class HandClock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def gone(hold: Hold) -> int:
    """Let as many go as may, and return how many did."""
    count = 0
    while count < 100 and hold.take():
        count += 1
    return count


def test_nothing_goes_before_the_reset_nor_before_our_turn() -> None:
    clock = HandClock()
    hold = Hold(clock, 8)
    hold.close(10.0, turn=12.0)
    assert (hold.reset_in, hold.turn_in, hold.take()) == (10.0, 12.0, False)
    clock.time += 11.9
    assert (hold.reset_in, hold.take()) == (0.0, False)
    clock.time += 0.1
    assert hold.take()


def test_a_shorter_limit_does_not_take_back_a_longer_one() -> None:
    clock = HandClock()
    hold = Hold(clock, 8)
    hold.close(100.0)
    hold.close(1.0)
    assert hold.turn_in == 100.0


def test_one_goes_first_and_each_that_is_taken_doubles_how_many_go() -> None:
    clock = HandClock()
    hold = Hold(clock, 8)
    assert gone(hold) == 8, "the control: without a limit"
    for _ in range(8):
        hold.give_back()
    hold.close(1.0)
    hold.taken()  # an answer to what went before the limit says nothing
    clock.time += 1.0
    assert gone(hold) == 1
    for more in (1, 2, 4):
        hold.taken()
        assert gone(hold) == more
    hold.taken()
    assert gone(hold) == 0, "never more than the gateway allows at all"


async def test_who_waits_is_woken_at_the_reset_and_by_who_is_done() -> None:
    hold = Hold(SystemClock(), 8)
    hold.close(0.02)
    async with asyncio.timeout(10):
        while not hold.take():
            await hold.change()
        waiting = asyncio.create_task(hold.change(), name="waiting")
        await asyncio.sleep(0)
        assert not waiting.done()
        hold.give_back()
        await waiting
    assert hold.take()


def test_the_id_of_a_key_tells_keys_and_providers_apart_and_nothing_of_the_key() -> None:
    ids = {
        provider_at(url, Secret(key)).credential_id
        for url in ("https://api.anthropic.com", "https://proxy.example/anthropic", "https://proxy.example")
        for key in ("sk-one", "sk-two")
    }
    assert len(ids) == 6
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in ids)
    assert provider_at("https://api.anthropic.com").credential_id == ""
    assert provider_at("https://api.anthropic.com/", Secret(" sk-one\n")).credential_id in ids, (
        "white space and slashes are the same"
    )


@given(st.lists(st.sampled_from(["take", "give", "taken", "close", "later"]), max_size=60))
def test_never_more_go_than_the_gateway_allows_and_none_while_the_window_is_closed(steps: list[str]) -> None:
    clock = HandClock()
    hold = Hold(clock, 4)
    under_way, reset = 0, 0.0
    for step in steps:
        match step:
            case "take":
                if hold.take():
                    under_way += 1
                    assert clock.time >= reset
            case "give" if under_way:
                hold.give_back()
                under_way -= 1
            case "taken":
                hold.taken()
            case "close":
                hold.close(2.0)
                reset = clock.time + 2.0
            case "later":
                clock.time += 1.0
        assert under_way <= 4


class Times:
    """A clock that shows these times, one a look, and then the last one for ever."""

    def __init__(self, *shown: float) -> None:
        self._shown = list(shown)

    def monotonic(self) -> float:
        return self._shown.pop(0) if len(self._shown) > 1 else self._shown[0]

    def now(self) -> float:
        return self.monotonic()


async def test_a_turn_that_comes_between_two_looks_at_the_clock_is_not_slept_through():
    hold = Hold(Times(0.0, 2.9999, 3.0001), most=4)
    hold.close(3.0)

    assert not hold.take()  # a timer may wake a moment too early
    async with asyncio.timeout(5):
        await hold.change()
    assert hold.take()


async def test_who_waits_for_another_request_goes_when_that_is_over():
    hold = Hold(Times(0.0, 4.0), most=4)
    hold.close(3.0)
    assert hold.take()
    assert not hold.take()

    waiting = asyncio.ensure_future(hold.change())
    await asyncio.sleep(0)
    assert not waiting.done()
    hold.give_back()
    async with asyncio.timeout(5):
        await waiting
    assert hold.take()

"""When the word about taken frames leaves alone, and when with a delivery; in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from claude_conductor.errors import MailboxFullError
from controlplane.api.session.acknowledging import RECEIPT_SECONDS, TURN_SECONDS, Acknowledger
from controlplane.service.sessions import Refusal
from tests.simulation.virtual_loop import VirtualLoop


class Told:
    """Writes as a Writer does: what is due leaves alone at once."""

    def __init__(self) -> None:
        self.alone: list[tuple[int, float]] = []
        self.acknowledger = Acknowledger(self._due)

    def _due(self) -> None:
        told = self.acknowledger.alone()
        assert told is not None
        self.alone.append((told[0], round(asyncio.get_running_loop().time(), 6)))

    def taken(self, sequence: int, *, receipts: bool = False) -> None:
        self.acknowledger.taken(sequence, [], receipts=receipts)

    async def turn(self, sequence: int, after: float = 0.0) -> int:
        """Take a message and deliver its answer so long after; return what rode on the delivery."""
        self.taken(sequence)
        await asyncio.sleep(after)
        return self.acknowledger.riding()


def in_virtual_time(test: Callable[[Told], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def whole() -> None:
        await test(Told())

    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())

    run.__name__ = test.__name__
    return run


@in_virtual_time
async def test_in_the_quick_mode_the_word_about_a_message_leaves_at_once(told: Told) -> None:
    told.taken(1)
    told.taken(2)
    assert told.alone == [(1, 0.0), (2, 0.0)]


@in_virtual_time
async def test_once_an_answer_came_at_once_the_word_rides_on_the_next_one(told: Told) -> None:
    assert await told.turn(1, TURN_SECONDS / 2) == 0
    assert [await told.turn(sequence, TURN_SECONDS / 2) for sequence in (2, 3, 4)] == [2, 3, 4]
    assert told.alone == [(1, 0.0)]


@in_virtual_time
async def test_an_answer_that_comes_late_teaches_nothing(told: Told) -> None:
    assert [await told.turn(sequence, 2 * TURN_SECONDS) for sequence in (1, 2)] == [0, 0]
    assert [sequence for sequence, _ in told.alone] == [1, 2]


@in_virtual_time
async def test_what_is_held_back_in_vain_leaves_soon_and_ends_the_interactive_mode(told: Told) -> None:
    await told.turn(1)
    await told.turn(2)
    began = asyncio.get_running_loop().time()
    told.taken(3)
    await asyncio.sleep(1.0)
    told.taken(4)
    assert told.alone[1:] == [(3, round(began + TURN_SECONDS, 6)), (4, round(began + 1.0, 6))]


@in_virtual_time
async def test_a_timer_that_was_set_for_an_earlier_word_does_not_hurry_a_later_one(told: Told) -> None:
    await told.turn(1)
    for sequence in range(2, 12):  # each answered in time; the timer of the first goes off between them
        assert await told.turn(sequence, TURN_SECONDS * 0.7) == sequence
    assert told.alone == [(1, 0.0)]


@in_virtual_time
async def test_receipts_wait_longer_and_go_with_the_word_about_a_message(told: Told) -> None:
    told.taken(1, receipts=True)
    told.taken(2, receipts=True)
    await asyncio.sleep(RECEIPT_SECONDS / 2)
    assert told.alone == []
    told.taken(3)
    assert [sequence for sequence, _ in told.alone] == [3]
    told.taken(4, receipts=True)
    await asyncio.sleep(1.0)
    assert told.alone[-1] == (4, round(RECEIPT_SECONDS * 1.5, 6))


@in_virtual_time
async def test_a_message_in_the_interactive_mode_shortens_the_wait_of_receipts(told: Told) -> None:
    await told.turn(1)
    told.taken(2, receipts=True)
    told.taken(3)
    await asyncio.sleep(1.0)
    assert told.alone[1:] == [(3, TURN_SECONDS)]


@in_virtual_time
async def test_a_refusal_is_never_held_back_and_never_rides(told: Told) -> None:
    await told.turn(1)
    told.taken(2)
    told.acknowledger.taken(3, [Refusal(3, MailboxFullError())], receipts=False)
    assert [sequence for sequence, _ in told.alone] == [1, 3]
    assert told.acknowledger.answers == 0


def test_what_a_writer_has_not_asked_for_yet_is_told_with_its_answers() -> None:
    acknowledger = Acknowledger(lambda: None)
    acknowledger.taken(1, [Refusal(1, MailboxFullError())], receipts=False)
    acknowledger.taken(2, [], receipts=True)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def ask() -> tuple[int, int]:
            assert acknowledger.riding() == 0
            told = acknowledger.alone()
            assert told is not None
            return told[0], len(told[1])

        assert runner.run(ask()) == (2, 1)

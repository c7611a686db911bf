"""One process's mailbox: whoever goes away, no message is lost, none comes twice, none overtakes."""

from __future__ import annotations

import asyncio
import random

import pytest

from claude_conductor.agent_tools.mail import Mail
from claude_conductor.clock import SystemClock
from claude_conductor.errors import ControlPlaneUnavailableError
from claude_conductor.v1.message_service_pb2 import ReceivedMessage
from tests.fakes.waiting import eventually


class Agent:
    """A sidecar that hands out each message once, some at a time, after a while."""

    def __init__(self, messages: int, seed: int) -> None:
        self._left = [ReceivedMessage(position=position) for position in range(1, messages + 1)]
        self._random = random.Random(seed)
        self.failures = 0

    async def fetch(self, *, limit: int = 100, wait: float = 0.0, request_id: str = "") -> list[ReceivedMessage]:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ControlPlaneUnavailableError
        count = self._random.randrange(limit + 1) if wait else limit
        taken, self._left = self._left[:count], self._left[count:]
        await asyncio.sleep(0)  # the answer is on its way
        return taken


def everything(_: ReceivedMessage) -> bool:
    return True


@pytest.mark.parametrize("seed", range(30))
async def test_readers_that_come_and_go_get_every_message_once_and_in_order(seed: int):
    choice = random.Random(seed)
    mail = Mail(Agent(40, seed), SystemClock(), slice_seconds=0.001)  # type: ignore[arg-type]
    read: list[int] = []
    while len(read) < 40:
        reading = asyncio.create_task(mail.take(choice.randint(1, 7), 0.01, lambda _: choice.random() < 0.8))
        for _ in range(choice.randrange(6)):
            await asyncio.sleep(0)
        if choice.random() < 0.4:
            reading.cancel()
        try:
            taken = await reading
        except asyncio.CancelledError:
            continue
        if choice.random() < 0.3:
            mail.put_back(taken)  # nobody got the answer
        else:
            read += [message.position for message in taken]

    assert read == list(range(1, 41))


async def test_a_fetch_that_fails_is_told_to_whoever_waits_and_the_next_reader_starts_anew():
    agent = Agent(1, 0)
    agent.failures = 1
    mail = Mail(agent, SystemClock())  # type: ignore[arg-type]

    with pytest.raises(ControlPlaneUnavailableError):
        await mail.take(1, 0, everything)
    assert [message.position for message in await mail.take(1, 0, everything)] == [1]


async def test_a_fetch_that_fails_after_its_reader_went_away_troubles_nobody():
    agent = Agent(1, 3)
    agent.failures = 1
    mail = Mail(agent, SystemClock())  # type: ignore[arg-type]
    reading = asyncio.create_task(mail.take(1, 0, everything))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})

    await eventually(lambda: not agent.failures)
    assert [message.position for message in await mail.take(1, 1, everything)] == [1]

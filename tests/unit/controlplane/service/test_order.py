"""Messages of one sender to one recipient keep their order, whatever part of them was accepted before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from claude_conductor.clock import SystemClock
from claude_conductor.ids import DEFAULT_TENANT
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.domain.message import Accepted, Duplicate, Header, IncomingFrame, Quality
from controlplane.domain.routing import Bounds, Shape
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.service.passing import Passing
from controlplane.service.publishing import Publishing
from controlplane.service.relay import Offer, Relay
from controlplane.service.work import Work
from tests.fakes.gates import Open, Unlimited


class Texts:
    """Frames of tests are a letter a message."""

    def keep(self, frame: bytes, indexes: Sequence[int]) -> bytes:
        return bytes(frame[index] for index in indexes)


class Ignoring:
    def expect_message(self, _: float) -> None:
        return None

    def stored(self, frame: IncomingFrame, first_position: int) -> None:
        return None

    def look(self, mailbox: str) -> None:
        return None


def offer(letters: str) -> Offer:
    ids = b"".join(letter.encode() * 16 for letter in letters)
    header = Header("b", "t", Quality.DURABLE, 0, 0, ids)
    return Offer(DEFAULT_TENANT, "agent/a", header, Shape(len(letters), 10), letters.encode())


async def test_what_is_new_in_a_partly_repeated_frame_stays_before_the_frames_that_follow():
    store = MemoryMailboxStore(MailboxLimits())
    async with asyncio.TaskGroup() as group:
        relay = Relay(
            *(
                store,
                Ignoring(),
                Open(),
                Texts(),
                None,
                Ignoring(),
                SystemClock(),
                Bounds(1000, 16, 60_000),
                Work(group),
            ),  # type: ignore[arg-type]
            publishing=Publishing(*[None] * 8),  # type: ignore[arg-type]
            passing=Passing(*[None] * 6),  # type: ignore[arg-type]
            rates=Unlimited(),  # type: ignore[arg-type]
            permissions=Open(),  # type: ignore[arg-type]
        )
        assert await relay.accept([offer("a")]) == [Accepted(1)]
        verdicts = await relay.accept([offer("ab"), offer("c"), offer("bd"), offer("a"), offer("e")])
    assert verdicts == [Accepted(2), Accepted(3), Accepted(4), Duplicate(), Accepted(5)]
    assert b"".join(frame.frame for frame in await store.read("default/b", 0, 1000)) == b"abcde"

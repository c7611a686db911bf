"""The short way of ephemeral messages says yes only where the long way would, hands over the same, and else changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_conductor.clock import SystemClock
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation
from claude_conductor.telemetry.traces import PassingTracer
from controlplane.app import Parts, build
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.stores import open_memory
from controlplane.domain.message import Accepted, Header, Quality, StoredFrame
from controlplane.domain.policy import Effect, Policy, Rule
from controlplane.domain.routing import Shape
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.service.relay import Offer
from controlplane.service.sessions import Hello, Message, Numbered, Session
from controlplane.service.work import Work
from controlplane.settings import Limits, Settings

GOOD = Header("b", "note", Quality.EPHEMERAL, 0, 0, bytes(16))
SHAPE = Shape(1, 300)


class Link:
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.room = 1000
        self.got: list[StoredFrame] = []

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        del after_position
        self.got.append(frame)


class House:
    """A control plane with two agents; `a` sends to `b`."""

    def __init__(self, parts: Parts, session: Session, link: Link) -> None:
        self.parts = parts
        self.session = session
        self.link = link
        self.sequence = 0

    def short(self, header: Header, shape: Shape = SHAPE, traceparent: str = "", sequence: int = 0) -> bool:
        """Try the short way with the next frame of the journal."""
        self.sequence += not sequence
        message = Message(header, shape, b"frame", traceparent)
        return self.parts.sessions.passed(self.session, Numbered(sequence or self.sequence, message, 1, 5))

    async def long(self, header: Header, shape: Shape = SHAPE) -> object:
        (verdict,) = await self.parts.relay.accept([Offer(DEFAULT_TENANT, "agent/a", header, shape, b"frame", "a")])
        return verdict


@contextlib.asynccontextmanager
async def house(place: Path, at_once: int = 100) -> AsyncIterator[House]:
    clock, output = SystemClock(), OutputDirectory(place, 1 << 20)
    policy = Policy((Rule("no secrets", Effect.DENY, types=("secret",)), Rule("all else", Effect.ALLOW)))
    settings = Settings(place, limits=Limits(messages_a_second=1e-6, messages_at_once=at_once), policy=policy)
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        parts = build(settings, open_memory(clock, MailboxLimits()), output, work, clock, PassingTracer())
        links: dict[str, tuple[Session, Link]] = {}
        for name in ("a", "b"):
            link, hello = Link(), Hello(1000, Incarnation(name), long_running=True)
            session = await parts.sessions.open(DEFAULT_TENANT, AgentId(name), hello, link)  # type: ignore[arg-type]
            await parts.sessions.begin(session, hello)
            links[name] = session, link
        yield House(parts, links["a"][0], links["b"][1])
        work.cancel()
    await output.close()


async def test_it_waits_for_the_policys_first_word_and_then_hands_over_what_the_long_way_does(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        assert not here.short(GOOD)  # nobody has asked the policy yet
        assert await here.long(GOOD) == Accepted(0)
        assert here.short(GOOD)
        assert here.session.committed == here.sequence
        long, short = here.link.got
        assert short == long._replace(accept_time_ms=short.accept_time_ms, expire_time_ms=short.expire_time_ms)
        assert short.expire_time_ms - short.accept_time_ms == long.expire_time_ms - long.accept_time_ms


@pytest.mark.parametrize(
    ("header", "shape"),
    [
        (GOOD._replace(recipient="nobody"), SHAPE),
        (GOOD._replace(recipient="task/short"), SHAPE),
        (GOOD._replace(type="secret"), SHAPE),
        (GOOD._replace(hop_count=99), SHAPE),
        (GOOD._replace(expire_time_ms=1), SHAPE),
        (GOOD._replace(message_ids=bytes(15)), SHAPE),
        (GOOD, Shape(2, 300)),
        (GOOD, Shape(1, 1 << 30)),
        (GOOD._replace(type="t" * 257), SHAPE),
        (
            GOOD._replace(message_ids=bytes(16 * 101)),
            Shape(101, 300),
        ),
    ],
    ids=["unknown", "no name", "denied", "hops", "expired", "ids", "envelopes", "size", "type", "rate"],
)
async def test_what_the_long_way_refuses_is_not_passed_and_changes_nothing(tmp_path: Path, header: Header, shape: Shape) -> None:
    async with house(tmp_path / "long") as here:
        await here.long(GOOD)
        assert not isinstance(await here.long(header, shape), Accepted)
        assert not here.short(header, shape)
    async with house(tmp_path / "short") as here:
        assert await here.long(GOOD) == Accepted(0)
        for _ in range(3):
            assert not here.short(header, shape)
        assert (here.session.committed, len(here.link.got)) == (0, 1)
        passed = 0
        while passed < 200 and here.short(GOOD):
            passed += 1
        assert passed == 99  # the rate was taken off for nothing else
        assert not isinstance(await here.long(GOOD), Accepted)


@pytest.mark.parametrize("recipient", ["topic/news", "broadcast", "operator"])
async def test_what_needs_the_store_or_has_no_stream_goes_the_long_way(tmp_path: Path, recipient: str) -> None:
    async with house(tmp_path) as here:
        await here.long(GOOD._replace(recipient=recipient))
        assert not here.short(GOOD._replace(recipient=recipient))


async def test_durable_traced_and_repeated_frames_go_the_long_way(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        await here.long(GOOD)
        assert not here.short(GOOD._replace(quality=Quality.DURABLE))
        assert not here.short(GOOD, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        assert here.short(GOOD)
        assert not here.short(GOOD, sequence=here.sequence)


async def test_a_recipient_that_takes_no_more_is_left_to_the_long_way(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        await here.long(GOOD)
        here.link.room = 0
        assert not here.short(GOOD)
        assert not isinstance(await here.long(GOOD), Accepted)

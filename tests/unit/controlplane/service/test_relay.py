"""Messages are accepted in order and once, and senders hear of a bounce once, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from claude_conductor import ids
from claude_conductor.errors import AgentNotFoundError, ConductorError, MessageExpiredError, StoreUnavailableError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation
from claude_conductor.telemetry.traces import PassingTracer
from claude_conductor.v1 import message_pb2
from controlplane.api.session.writer import Writer
from controlplane.app import Parts, build
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.audit_store import MemoryAuditStore
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.identity_store import MemoryIdentityStore
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.memory.schedule_store import MemoryScheduleStore
from controlplane.backends.memory.subscription_store import MemorySubscriptionStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.message import Accepted, Duplicate, Header, Quality, Receipt, Record, State, StoredFrame
from controlplane.domain.routing import Shape
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import SubscriptionLimits
from controlplane.service.relay import Offer
from controlplane.service.sessions import Hello
from controlplane.service.work import Work
from controlplane.settings import Settings
from tests.contract.samples import HandClock

BOX = "default/agent-1"


class Mailboxes(MemoryMailboxStore):
    """Fails once where it is told to, before or after it has done what was asked."""

    fails_before = ""
    fails_after = ""

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> Sequence[Record]:
        self._perhaps("record", self.fails_before)
        ended = await super().record(mailbox, receipts, now_ms)
        self._perhaps("record", self.fails_after)
        return ended

    async def close(self, mailbox: str, reason: str, now_ms: int) -> Sequence[Record]:
        self._perhaps("close", self.fails_before)
        bounced = await super().close(mailbox, reason, now_ms)
        self._perhaps("close", self.fails_after)
        return bounced

    def _perhaps(self, name: str, failing: str) -> None:
        if name == failing:
            self.fails_before = self.fails_after = ""
            raise StoreUnavailableError


@dataclass
class Office:
    """A control plane without its door, with one agent."""

    parts: Parts
    store: Mailboxes
    clock: HandClock

    async def send(self, *frames: tuple[int, ...], recipient: str = "agent-1", expire_time_ms: int = 0) -> list[object]:
        """Offer frames of messages with these numbers, in one call."""
        offers = []
        for numbers in frames:
            packed = b"".join(number.to_bytes(16, "big") for number in numbers)
            header = Header(recipient, "note", Quality.DURABLE, 0, expire_time_ms, packed)
            body = message_pb2.MessageFrame(
                header=message_pb2.FrameHeader(recipient=recipient, message_ids=packed),
                envelopes=[message_pb2.Envelope(data=b"%d" % number) for number in numbers],
            )
            offers.append(Offer(DEFAULT_TENANT, "operator", header, Shape(len(numbers), 10), body.SerializeToString()))
        return [
            verdict.reason if isinstance(verdict, ConductorError) else verdict
            for verdict in await self.parts.relay.accept(offers)
        ]

    async def stored(self) -> list[int]:
        """Return what is in the mailbox, in order."""
        return [
            int(envelope.data)
            for frame in await self.store.read(BOX, 0, 1 << 20)
            for envelope in message_pb2.MessageFrame.FromString(frame.frame).envelopes
        ]

    async def told(self) -> list[int]:
        """Return of which messages the operator was told that they bounced."""
        return [
            int.from_bytes(ids.message_bytes(envelope.correlation_id), "big")
            for frame in await self.store.read("default/operator", 0, 1 << 20)
            for envelope in message_pb2.MessageFrame.FromString(frame.frame).envelopes
        ]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    clock, store = HandClock(), Mailboxes(MailboxLimits())
    stores = Stores(
        MemoryTaskStore(clock),
        store,
        MemoryAgentStore(),
        MemoryEventLog(),
        MemorySubscriptionStore(SubscriptionLimits()),
        MemoryIdentityStore(),
        MemoryAuditStore(),
        MemoryScheduleStore(),
    )
    output = OutputDirectory(tmp_path / "output", 1 << 20)
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        parts = build(Settings(tmp_path), stores, output, work, clock, PassingTracer())
        hello = Hello(1000, Incarnation("life-1"), drivers=("grpc_agent",), long_running=True)
        await parts.sessions.open(DEFAULT_TENANT, AgentId("agent-1"), hello, Writer(lambda _: None))
        yield Office(parts, store, clock)
        work.cancel()
    await output.close()


async def test_what_is_new_of_a_partly_repeated_frame_stays_before_what_was_sent_after_it(office: Office) -> None:
    assert await office.send((1, 2)) == [Accepted(1)]
    assert await office.send((2, 3), (4,), (4, 5, 1), (6,)) == [Accepted(3), Accepted(4), Accepted(5), Accepted(6)]
    assert await office.stored() == [1, 2, 3, 4, 5, 6]


async def test_a_repeat_of_what_was_taken_is_a_repeat_even_if_it_could_not_be_taken_now(office: Office) -> None:
    """Else its sender would hear of a refusal, and the recipient has it."""
    soon = int(office.clock.now() * 1000) + 1000
    assert await office.send((1, 2), expire_time_ms=soon) == [Accepted(1)]
    office.clock.pass_(2)
    assert await office.send((1, 2), (1, 3), expire_time_ms=soon) == [Duplicate(), MessageExpiredError.reason]
    assert await office.send((1, 2), (3,), recipient="nobody") == [Duplicate(), AgentNotFoundError.reason]


async def test_a_session_that_begins_late_takes_no_mail_from_the_newer_one(office: Office) -> None:
    sessions, older, newer = office.parts.sessions, Writer(lambda _: None), Writer(lambda _: None)
    hello = Hello(1000, Incarnation("life-1"), drivers=("grpc_agent",), long_running=True)
    first = await sessions.open(DEFAULT_TENANT, AgentId("agent-1"), hello, older)
    second = await sessions.open(DEFAULT_TENANT, AgentId("agent-1"), hello, newer)
    await sessions.begin(second, hello)
    await sessions.begin(first, hello)
    await sessions.close(first, "its stream ended")
    assert sessions._mail.owner(BOX) is newer


class Collecting(Writer):
    """Keeps the positions that were to be delivered."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.positions: list[int] = []
        self.arrived = asyncio.Event()

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        self.positions += [each for each in range(frame.first_position, frame.last_position + 1) if each > after_position]
        self.arrived.set()


async def test_a_sidecar_that_remembers_more_than_the_store_gets_what_is_sent_from_now_on(office: Office) -> None:
    """A `memory` store that was restarted begins at 1; the sidecar would take new messages for those it had acknowledged."""
    sessions, link = office.parts.sessions, Collecting()
    hello = Hello(1000, Incarnation("life-1"), drivers=("grpc_agent",), long_running=True, mailbox_positions={"agent-1": 7})
    await sessions.begin(await sessions.open(DEFAULT_TENANT, AgentId("agent-1"), hello, link), hello)
    assert await office.send((1, 2)) == [Accepted(8)]
    async with asyncio.timeout(5):
        await link.arrived.wait()
    assert link.positions == [8, 9]


async def test_a_sidecar_that_claims_an_impossible_position_changes_nothing(office: Office) -> None:
    hello = Hello(1000, Incarnation("life-1"), long_running=True, mailbox_positions={"agent-1": (1 << 63) - 1})
    await office.parts.sessions.open(DEFAULT_TENANT, AgentId("agent-1"), hello, Writer(lambda _: None))
    assert await office.send((1, 2)) == [Accepted(1)]


@pytest.mark.parametrize("failing", ["fails_before", "fails_after"])
async def test_a_sender_hears_once_that_its_message_was_refused_whatever_fails(office: Office, failing: str) -> None:
    await office.send((1, 2, 3))
    refused = [Receipt(1, 2, State.BOUNCED, "fetched too often")]
    setattr(office.store, failing, "record")
    with pytest.raises(StoreUnavailableError):
        await office.parts.relay.receive(DEFAULT_TENANT, "agent-1", "agent-1", refused)
    for _ in range(2):  # the sidecar says it again, since nobody committed it
        await office.parts.relay.receive(DEFAULT_TENANT, "agent-1", "agent-1", refused)
        await office.parts.relay.expire()  # which tells what is still owed
    assert await office.told() == [1, 2]
    assert await office.stored() == [1, 2, 3]
    (left,) = await office.store.read(BOX, 0, 1 << 20)
    assert left.settled == {1, 2}


@pytest.mark.parametrize("failing", ["fails_before", "fails_after"])
async def test_senders_hear_once_that_a_mailbox_was_closed_whatever_fails(office: Office, failing: str) -> None:
    await office.send((1, 2), (3,))
    setattr(office.store, failing, "close")
    with pytest.raises(StoreUnavailableError):
        await office.parts.relay.close(DEFAULT_TENANT, "agent-1", "the task ended")
    for _ in range(2):
        await office.parts.relay.close(DEFAULT_TENANT, "agent-1", "the task ended")
        await office.parts.relay.expire()  # which tells what is still owed
    assert sorted(await office.told()) == [1, 2, 3]
    assert await office.stored() == []

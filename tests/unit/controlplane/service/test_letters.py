"""Dead letters are sent again or removed, and senders hear of bounces, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from claude_conductor import ids
from claude_conductor.errors import StoreUnavailableError
from claude_conductor.ids import DEFAULT_TENANT
from claude_conductor.v1 import message_pb2
from controlplane.api.convert.frames import Frames
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.memory.subscription_store import MemorySubscriptionStore
from controlplane.backends.sqlite.stores import open_sqlite
from controlplane.domain.message import Accepted, Header, IncomingFrame, Outcome, Quality, Receipt, Record, State
from controlplane.domain.routing import Bounds, Shape
from controlplane.interfaces.letter_store import LetterStore
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.subscription_store import SubscriptionLimits
from controlplane.service.letters import Letters, Wish
from controlplane.service.mail import Mail
from controlplane.service.news import MessageNews
from controlplane.service.passing import Passing
from controlplane.service.publishing import Publishing
from controlplane.service.relay import Offer, Relay
from controlplane.service.timetable import Timetable
from controlplane.service.watch import Watch
from controlplane.service.work import Work
from tests.contract.samples import HandClock, message_id
from tests.fakes.directory import Directory
from tests.fakes.gates import Open, Unlimited

LIMITS = MailboxLimits(messages=6, attempts=1)


class Mailboxes(MemoryMailboxStore):
    """May be away for notices, and when it should note that they were sent."""

    away = False
    forgetful = False

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        if self.away and any(frame.sender == "conductor" for frame in frames):
            raise StoreUnavailableError
        return await super().append(frames)

    async def told(self, records: Sequence[Record]) -> None:
        if self.forgetful:
            raise StoreUnavailableError
        await super().told(records)


@dataclass
class Office:
    """Relay and letters over one store."""

    store: LetterStore
    work: Work
    clock: HandClock = field(default_factory=HandClock)
    directory: Directory = field(default_factory=Directory)
    watch: Watch = field(default_factory=lambda: Watch(MemoryEventLog()))

    def __post_init__(self) -> None:
        news = MessageNews(self.watch, self.clock)
        mail = Mail(self.store, self.clock, self.work, news)
        timetable, bounds = Timetable(self.clock), Bounds(1 << 20, 16, 60_000)
        directory: object = self.directory
        given = (directory, Frames())
        subscriptions = MemorySubscriptionStore(SubscriptionLimits())
        publishing = Publishing(self.store, subscriptions, directory, mail, news, timetable, self.clock, Open())  # type: ignore[arg-type]
        gates: object = (publishing, Passing(mail, directory, Open(), Unlimited(), self.clock, bounds), Unlimited(), Open())  # type: ignore[arg-type]
        self.relay = Relay(self.store, mail, *given, news, timetable, self.clock, bounds, self.work, *gates)  # type: ignore[misc]
        self.letters = Letters(self.store, *given, mail, news, timetable, self.clock, self.work)  # type: ignore[arg-type]

    async def send(self, *numbers: int, to: str = "agent-1", sender: str = "operator") -> None:
        packed = b"".join(message_id(number) for number in numbers)
        header = Header(to, "note", Quality.DURABLE, 0, 0, packed)
        frame = message_pb2.MessageFrame(
            header=message_pb2.FrameHeader(recipient=to, message_ids=packed),
            envelopes=[message_pb2.Envelope(id=ids.message_id(message_id(n)), data=f"text {n}".encode()) for n in numbers],
        )
        offer = Offer(DEFAULT_TENANT, sender, header, Shape(len(numbers), 10), frame.SerializeToString())
        (verdict,) = await self.relay.accept([offer])
        assert isinstance(verdict, Accepted), verdict

    async def kill(self, first: int, last: int, to: str = "agent-1") -> None:
        box, now_ms = f"default/{to}", int(self.clock.now() * 1000)
        await self.store.record(box, [Receipt(first, last, State.SEEN)], now_ms)
        assert await self.store.give_up(box, first, last, "it exploded", now_ms)

    def wish(self, *numbers: int, recipient: str = "") -> Wish:
        return Wish(DEFAULT_TENANT, [message_id(number) for number in numbers], recipient, "operator", "wish-1")

    async def record(self, number: int) -> Record:
        ((record, _),) = await self.store.find("default", message_id(number))
        return record

    async def notices(self, mailbox: str = "default/operator") -> list[str]:
        """Return the ids that the bounce notices in a mailbox are about."""
        frames = [message_pb2.MessageFrame.FromString(frame.frame) for frame in await self.store.read(mailbox, 0, 1 << 20)]
        of_type = [frame for frame in frames if frame.header.type == "conductor.bounced"]
        return [envelope.correlation_id for frame in of_type for envelope in frame.envelopes]

    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.details["message_id"]) for event in self.watch._pending]


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    async with asyncio.TaskGroup() as group:
        made = Work(group)
        yield made
        made.cancel()


@pytest.fixture
def office(work: Work) -> Office:
    return Office(Mailboxes(LIMITS), work)


def name(number: int) -> str:
    return ids.message_id(message_id(number))


async def test_a_dead_letter_is_sent_again_alone_with_a_new_time_to_live(office: Office) -> None:
    await office.send(1, 2, 3)
    await office.kill(2, 2)
    office.clock.pass_(50)
    (fate,) = await office.letters.redrive(office.wish(2))
    assert (fate.error, fate.mailbox, fate.position) == (None, "agent-1", 4)
    record = await office.record(2)
    assert (record.state, record.redrives, record.attempts) == (State.ACCEPTED, 1, 0)
    assert "sent again by operator" in record.reason
    assert "delivered once" in record.reason
    assert record.expire_time_ms == int(office.clock.now() * 1000) + 60_000
    *_, last = await office.store.read("default/agent-1", 0, 1 << 20)
    assert [each.data for each in message_pb2.MessageFrame.FromString(last.frame).envelopes] == [b"text 2"]
    assert office.events() == [("message.redriven", name(2))]
    assert office.watch._pending[0].details["by"] == "operator"
    assert office.watch._pending[0].details["request_id"] == "wish-1"


async def test_letters_keep_their_order_and_each_is_answered_for_itself(office: Office) -> None:
    await office.send(1, 2, 3, 4)
    await office.kill(1, 3)
    fates = await office.letters.redrive(office.wish(9, 3, 4, 1, 3))
    assert [(fate.message_id, fate.error.reason if fate.error else fate.position) for fate in fates] == [
        (message_id(9), "MESSAGE_NOT_FOUND"),
        (message_id(4), "MESSAGE_NOT_DEAD"),
        (message_id(1), 5),
        (message_id(3), 6),
    ]
    (again,) = await office.letters.redrive(office.wish(1))
    assert again.error is not None
    assert again.error.message == "The message is no dead letter; it is accepted (it was sent again)."
    (elsewhere,) = await office.letters.redrive(office.wish(2, recipient="agent-2"))
    assert elsewhere.error is not None
    assert elsewhere.error.reason == "MESSAGE_NOT_FOUND"


async def test_nothing_is_sent_again_to_a_task_that_ended_or_a_mailbox_that_is_full(office: Office) -> None:
    task = "task/task_" + "0" * 32
    await office.send(1, to=task)
    await office.kill(1, 1, to=task)
    office.directory.ended.add(task)
    (fate,) = await office.letters.redrive(office.wish(1))
    assert fate.error is not None
    assert (fate.error.reason, fate.mailbox) == ("AGENT_NOT_FOUND", task)
    await office.send(2)
    await office.kill(1, 1)
    await office.send(10, 11, 12, 13, 14, 15)
    (fate,) = await office.letters.redrive(office.wish(2))
    assert fate.error is not None
    assert fate.error.reason == "MAILBOX_FULL"
    assert {(await office.record(number)).state for number in (1, 2)} == {State.DEAD}
    assert office.events() == []


async def test_a_purge_removes_dead_letters_only_and_is_told(office: Office) -> None:
    await office.send(1, 2)
    await office.kill(1, 1)
    fates = await office.letters.purge(office.wish(1, 2))
    assert [(fate.message_id, fate.error.reason if fate.error else "") for fate in fates] == [
        (message_id(2), "MESSAGE_NOT_DEAD"),
        (message_id(1), ""),
    ]
    assert await office.store.find("default", message_id(1)) == []
    assert office.events() == [("message.purged", name(1))]


async def test_what_a_sidecar_gave_up_is_a_dead_letter_and_told(office: Office) -> None:
    await office.send(1)
    receipt = Receipt(1, 1, State.DEAD, "delivered 5 times without an acknowledgement", 5, "exit code 7")
    await office.relay.receive(DEFAULT_TENANT, "agent-1", "agent-1", [receipt])
    record = await office.record(1)
    assert (record.state, record.attempts, record.last_error) == (State.DEAD, 5, "exit code 7")
    assert office.events() == [("message.dead", name(1))]
    assert await office.notices() == []


async def test_a_message_that_is_refused_is_told_with_a_reason(office: Office) -> None:
    await office.send(1, 2)
    await office.relay.receive(DEFAULT_TENANT, "agent-1", "agent-1", [Receipt(1, 1, State.BOUNCED)])
    assert (await office.record(1)).reason == "refused by its recipient"
    assert await office.notices() == [name(1)]
    assert list(await office.store.owed(9)) == []


async def test_a_notice_the_store_did_not_take_is_sent_once_it_does(office: Office) -> None:
    await office.send(1, 2)
    assert isinstance(office.store, Mailboxes)
    office.store.away = True
    await office.relay.close(DEFAULT_TENANT, "agent-1", "it ended")
    assert await office.notices() == []
    assert [event for event, _ in office.events()] == ["message.bounced"] * 2
    with pytest.raises(StoreUnavailableError):
        await office.relay.expire()
    office.store.away = False
    await office.relay.expire()
    assert await office.notices() == [name(1), name(2)]
    await office.relay.expire()
    assert await office.notices() == [name(1), name(2)]


async def test_a_notice_that_was_sent_without_a_word_is_not_sent_twice(office: Office) -> None:
    await office.send(1, 2)
    assert isinstance(office.store, Mailboxes)
    office.store.forgetful = True
    await office.relay.close(DEFAULT_TENANT, "agent-1", "it ended")
    assert await office.notices() == [name(1), name(2)]
    office.store.forgetful = False
    await office.relay.expire()
    assert await office.notices() == [name(1), name(2)]
    assert list(await office.store.owed(9)) == []


async def test_a_notice_waits_for_room_in_the_mailbox_of_the_sender(office: Office) -> None:
    await office.send(1)
    await office.send(*range(10, 16), to="operator")
    await office.relay.close(DEFAULT_TENANT, "agent-1", "it ended")
    assert await office.notices() == []
    await office.store.record("default/operator", [Receipt(1, 1, State.ACKED)], 1)
    await office.relay.expire()
    assert await office.notices() == [name(1)]


async def test_as_many_notices_are_sent_as_there_is_room_for(office: Office) -> None:
    await office.send(1, 2, 3, 4, 5)
    await office.send(10, 11, 12, to="operator")
    await office.relay.close(DEFAULT_TENANT, "agent-1", "it ended")
    assert await office.notices() == [name(1), name(2), name(3)]
    await office.store.record("default/operator", [Receipt(1, 9, State.ACKED)], 1)
    await office.relay.expire()
    assert await office.notices() == [name(4), name(5)]
    assert list(await office.store.owed(9)) == []


async def test_a_sender_that_is_gone_is_owed_nothing(office: Office) -> None:
    await office.send(1, sender="agent/agent-2")
    office.directory.ended.add("agent-2")
    await office.relay.close(DEFAULT_TENANT, "agent-1", "it ended")
    assert list(await office.store.owed(9)) == []


async def test_a_control_plane_killed_between_bounce_and_notice_sends_it_when_it_starts(work: Work, tmp_path: Path) -> None:
    path, clock = tmp_path / "store" / "conductor.db", HandClock()
    first = open_sqlite(path, clock, LIMITS)
    before = Office(first.mailboxes, work)
    await before.send(1, 2)
    await first.mailboxes.close("default/agent-1", "the task ended", int(clock.now() * 1000))
    await first.close()
    again = open_sqlite(path, clock, LIMITS)
    after = Office(again.mailboxes, work)
    await after.relay.expire()  # what recovery does
    assert await after.notices() == [name(1), name(2)]
    await again.close()

"""Messages reach the owner of their mailbox in order, once, and no faster than it takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.domain.message import Accepted, IncomingFrame, Receipt, State, StoredFrame
from controlplane.domain.task import FailureKind, Lease, Task
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.service.mail import Mail
from controlplane.service.news import MessageNews
from controlplane.service.watch import Watch
from controlplane.service.work import Work

BOX = "default/agent-1"


class Clock:
    """Stands still."""

    time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@dataclass(eq=False)
class Link:
    """Keeps what is delivered."""

    room: int = 1 << 20
    delivered: list[StoredFrame] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        del after_position
        self.delivered.append(frame)
        self.room -= len(frame.frame)
        self.changed.set()

    async def until(self, count: int) -> list[int]:
        async with asyncio.timeout(5):
            while len(self.delivered) < count:
                self.changed.clear()
                await self.changed.wait()
        return [frame.first_position for frame in self.delivered]

    def assign(self, task: Task, traceparent: str) -> None:
        raise NotImplementedError

    def cancel(self, lease: Lease, grace: float, reason: str, kind: FailureKind) -> None:
        raise NotImplementedError

    def revoke(self, leases: Sequence[Lease]) -> None:
        raise NotImplementedError

    def move(self, deadline: float) -> None:
        raise NotImplementedError

    def end(self, reason: str) -> None:
        raise NotImplementedError


@dataclass
class Post:
    """A mail service with its store."""

    store: MemoryMailboxStore
    mail: Mail
    watch: Watch
    clock: Clock
    sent: int = 0

    async def send(self, count: int = 1, size: int = 10, *, tell: bool = True, expire_time_ms: int = 0) -> int:
        """Store a frame of one message, `count` times."""
        position = 0
        for _ in range(count):
            self.sent += 1
            frame = IncomingFrame(BOX, "operator", "note", self.sent.to_bytes(16, "big"), expire_time_ms, b"x" * size, 1)
            (outcome,) = await self.store.append([frame])
            assert isinstance(outcome, Accepted)
            position = outcome.first_position
            if tell:
                self.mail.stored(frame, position)
        return position


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    store, clock, watch = MemoryMailboxStore(MailboxLimits(attempts=2)), Clock(), Watch(MemoryEventLog())
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        yield Post(store, Mail(store, clock, work, MessageNews(watch, clock)), watch, clock)
        work.cancel()


async def test_what_waited_comes_first_and_what_follows_at_once(post: Post) -> None:
    link = Link()
    await post.send(3)
    post.mail.open(BOX, link, 0)
    await link.until(3)
    await post.send(2)
    assert await link.until(5) == [1, 2, 3, 4, 5]


async def test_a_store_that_answers_out_of_turn_changes_no_order(post: Post) -> None:
    link = Link()
    post.mail.open(BOX, link, 0)
    await post.send(1)
    await link.until(1)
    await post.send(1, tell=False)  # its sender hears of it only later
    await post.send(1)
    assert await link.until(3) == [1, 2, 3]
    post.mail.stored(IncomingFrame(BOX, "operator", "note", bytes(16), 0, b"x", 1), 2)
    await post.send(1)
    assert await link.until(4) == [1, 2, 3, 4]


async def test_a_receiver_without_room_leaves_the_rest_in_the_store(post: Post) -> None:
    link = Link(room=25)
    post.mail.open(BOX, link, 0)
    await post.send(10)
    assert await link.until(3) == [1, 2, 3]
    await asyncio.sleep(0)
    assert len(link.delivered) == 3
    link.room = 1000
    post.mail.link_has_room(link)
    assert await link.until(10) == list(range(1, 11))


async def test_a_new_owner_gets_what_is_not_acknowledged_again_and_the_old_one_no_more(post: Post) -> None:
    old, new = Link(), Link()
    post.mail.open(BOX, old, 0)
    await post.send(3)
    await old.until(3)
    await post.store.record(BOX, [Receipt(1, 3, State.SEEN), Receipt(2, 2, State.ACKED)], 1)
    post.mail.open(BOX, new, 0)
    assert await new.until(2) == [1, 3]
    assert [frame.attempt for frame in new.delivered] == [2, 2]
    await post.send(1)
    await new.until(3)
    assert len(old.delivered) == 3


async def test_an_owner_that_resumes_gets_only_what_it_has_not(post: Post) -> None:
    old, same = Link(), Link()
    post.mail.open(BOX, old, 0)
    await post.send(3)
    await old.until(3)
    post.mail.open(BOX, same, 2)
    assert await same.until(1) == [3]


async def test_sessions_that_break_count_no_attempts(post: Post) -> None:
    await post.send(1)
    for _ in range(10):
        link = Link()
        post.mail.open(BOX, link, 0)
        await link.until(1)
        await post.store.record(BOX, [Receipt(1, 1, State.AT_SIDECAR)], 1)
        assert link.delivered[0].attempt == 1


async def test_a_message_that_was_shown_too_often_is_a_dead_letter_and_holds_up_nothing(post: Post) -> None:
    await post.send(1)
    for attempt in (1, 2):
        link = Link()
        post.mail.open(BOX, link, 0)
        await link.until(1)
        assert link.delivered[0].attempt == attempt
        await post.store.record(BOX, [Receipt(1, 1, State.SEEN, attempt=attempt)], 1)
        post.mail.close(BOX)
    await post.send(1)
    last = Link()
    post.mail.open(BOX, last, 0, "killed by signal 9")
    assert await last.until(1) == [2]
    (record, _), *_ = await post.store.find("default", (1).to_bytes(16, "big"))
    assert (record.state, record.last_error) == (State.DEAD, "killed by signal 9")
    assert [event.type for event in post.watch._pending] == ["message.dead"]


async def test_a_message_whose_time_is_over_is_not_delivered(post: Post) -> None:
    await post.send(1, expire_time_ms=int(post.clock.time * 1000))
    await post.send(1)
    link = Link()
    post.mail.open(BOX, link, 0)
    assert await link.until(1) == [2]


async def test_a_link_that_ends_takes_its_mailboxes_with_it(post: Post) -> None:
    link = Link()
    post.mail.open(BOX, link, 0)
    assert post.mail.owner(BOX) is link
    post.mail.close_link(link)
    assert post.mail.owner(BOX) is None
    await post.send(1)
    assert link.delivered == []

"""Every mailbox store answers as the model does, whatever is asked of them in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.redis.address import parse
from controlplane.backends.redis.stores import open_redis
from controlplane.backends.sqlite.stores import open_sqlite
from controlplane.domain.message import IncomingFrame, Receipt, State
from controlplane.interfaces.mailbox_store import KEPT_MS, MailboxLimits, MailboxStore
from tests.contract.mailbox_model import Model
from tests.contract.samples import START_MS, HandClock, frame, message_id
from tests.fakes.redis_server import RedisServer, needs_redis, running

LIMITS = MailboxLimits(messages=14, bytes=2500, attempts=2, kept=100_000)
BOXES = ("default/a", "default/b", "other/a")
ANY: frozenset[State] = frozenset()

boxes = st.sampled_from(BOXES)
positions = st.integers(0, 30)
receipts = st.builds(
    lambda first, length, state, attempt: Receipt(first, first + length, state, "why", attempt),
    positions,
    st.integers(0, 8),
    st.sampled_from([state for state in State if state is not State.ACCEPTED]),
    st.integers(0, 3),
)


@st.composite
def frames(draw: st.DrawFn) -> IncomingFrame:
    numbers = draw(st.lists(st.integers(0, 25), max_size=5))
    return frame(
        *numbers,
        mailbox=draw(boxes),
        sender=draw(st.sampled_from(("agent/x", "agent/y"))),
        expire_time_ms=draw(st.sampled_from((0, START_MS + 20, START_MS + 60, START_MS + KEPT_MS))),
        frame=b"x" * draw(st.integers(1, 900)),
    )


class Mailboxes(RuleBasedStateMachine):
    """Asks store and model the same; a subclass says which store."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = self.opened()
        self.model = Model(LIMITS)
        self.now = START_MS
        self.shown_final: set[tuple[str, int]] = set()

    def opened(self) -> MailboxStore:
        raise NotImplementedError

    @rule(some=st.lists(frames(), min_size=1, max_size=4))
    def append(self, some: list[IncomingFrame]) -> None:
        assert list(self.runner.run(self.store.append(some))) == self.model.append(some)

    @rule(box=boxes, first=positions, length=st.integers(0, 8))
    def give_up(self, box: str, first: int, length: int) -> None:
        self.now += 1
        dead = self.runner.run(self.store.give_up(box, first, first + length, "why", self.now))
        assert [(each.mailbox, each.position) for each in dead] == self.model.give_up(box, first, first + length, self.now)
        assert all(each.state is State.DEAD for each in dead)

    @rule(box=boxes, some=st.lists(receipts, min_size=1, max_size=3))
    def record(self, box: str, some: list[Receipt]) -> None:
        self.now += 1
        ended = self.runner.run(self.store.record(box, some, self.now))
        assert [(each.mailbox, each.position) for each in ended] == self.model.record(box, some, self.now)

    @rule(box=boxes, position=positions)
    def advance(self, box: str, position: int) -> None:
        self.runner.run(self.store.advance(box, position))
        self.model.advance(box, position)
        assert self.runner.run(self.store.end(box)) == self.model.positions[box]

    @rule(box=boxes)
    def close(self, box: str) -> None:
        self.now += 1
        bounced = self.runner.run(self.store.close(box, "closed", self.now))
        assert [(each.mailbox, each.position) for each in bounced] == self.model.close(box, self.now)

    @rule(pause=st.sampled_from((1, 30, 1000, KEPT_MS - 1, KEPT_MS)))
    def expire(self, pause: int) -> None:
        self.now += pause
        expired = self.runner.run(self.store.expire(self.now))
        assert sorted((each.mailbox, each.position) for each in expired) == sorted(self.model.expire(self.now))

    @rule(box=boxes, after=positions, size=st.sampled_from((0, 700, 1 << 20)))
    def read(self, box: str, after: int, size: int) -> None:
        found = self.runner.run(self.store.read(box, after, size))
        shown = [
            position
            for each in found
            for position in range(each.first_position, each.last_position + 1)
            if position not in each.settled and position > after
        ]
        expected = [each.position for each in self.model.open(box, after + 1)]
        assert shown == (expected if size == 1 << 20 else expected[: len(shown)])
        assert bool(shown) == bool(expected)
        assert len(found) == 1 or sum(len(each.frame) for each in found) <= max(size, 0)
        for each in found:
            attempts = [one.attempts for one in self.model.open(box, each.first_position, each.last_position)]
            assert each.attempt == max(attempts) + 1
            for one in self.model.open(box, each.first_position, each.last_position):
                assert each.attempt_of(one.position) == one.attempts + 1

    @rule(number=st.integers(0, 25), tenant=st.sampled_from(("default", "other")))
    def find(self, number: int, tenant: str) -> None:
        found = self.runner.run(self.store.find(tenant, message_id(number)))
        expected = [
            each
            for each in self.model.messages()
            if each.id == message_id(number) and each.frame.mailbox.startswith(tenant + "/")
        ]
        assert {(each.sender, each.mailbox, each.position, each.state) for each, _ in found} == {
            (each.frame.sender, *each.place, each.state) for each in expected
        }

    @invariant()
    def every_record_is_the_models(self) -> None:
        for tenant in ("default", "other"):
            records = self.runner.run(self.store.list(tenant, "", ANY, b"", 10_000))
            expected = [each for each in self.model.messages() if each.frame.mailbox.startswith(tenant + "/")]
            assert {(each.mailbox, each.position, each.hops, each.attempts) for each in records} == {
                (*each.place, tuple(each.hops), each.attempts) for each in expected
            }
            assert len(records) == len(expected)
            ids = [each.message_id for each in records]
            assert ids == sorted(ids, reverse=True)

    @invariant()
    def promises_of_the_contract_hold(self) -> None:
        """Said once more without the model's own words: a wrong model must not excuse a wrong store."""
        for tenant in ("default", "other"):
            records = self.runner.run(self.store.list(tenant, "", ANY, b"", 10_000))
            opened = Counter(each.mailbox for each in records if not each.state.final)
            assert all(count <= LIMITS.messages for count in opened.values())
            seen = Counter((each.sender, each.message_id) for each in records)
            assert all(count == 1 for count in seen.values())
            assert len({(each.mailbox, each.position) for each in records}) == len(records)
            for each in records:
                ranks = [state.rank for state, _ in each.hops]
                assert ranks == sorted(ranks)
                assert sum(state.final for state, _ in each.hops) == each.state.final
        for box in BOXES:
            for each in self.runner.run(self.store.read(box, 0, 1 << 20)):
                for position in set(range(each.first_position, each.last_position + 1)) - each.settled:
                    assert (box, position) not in self.shown_final
        self.shown_final |= {each.place for each in self.model.messages() if each.state.final}

    def teardown(self) -> None:
        self.runner.close()


class MemoryMailboxes(Mailboxes):
    """In dictionaries."""

    def opened(self) -> MailboxStore:
        return MemoryMailboxStore(LIMITS)


class SqliteMailboxes(Mailboxes):
    """In a file."""

    def opened(self) -> MailboxStore:
        self.folder = tempfile.TemporaryDirectory()

        async def open_it() -> MailboxStore:
            self.stores = open_sqlite(Path(self.folder.name) / "x.db", HandClock(), LIMITS)
            return self.stores.mailboxes

        return self.runner.run(open_it())

    def teardown(self) -> None:
        self.runner.run(self.stores.close())
        super().teardown()
        self.folder.cleanup()


class RedisMailboxes(Mailboxes):
    """In a server of its own."""

    server: RedisServer

    def opened(self) -> MailboxStore:
        self.stores = open_redis(parse(self.server.fresh()), HandClock(), LIMITS)
        return self.stores.mailboxes

    def teardown(self) -> None:
        self.runner.run(self.stores.close())
        super().teardown()


class TestMemory(MemoryMailboxes.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples, stateful_step_count=40)


class TestSqlite(SqliteMailboxes.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)


@needs_redis
class TestRedis(RedisMailboxes.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)

    @classmethod
    def setUpClass(cls) -> None:
        RedisMailboxes.server = cls.enterClassContext(running())

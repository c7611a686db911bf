"""The Redis backend keeps the contracts, on a real server."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from claude_conductor.errors import StoreUnavailableError, StoreUnreachableError
from controlplane.backends.redis.address import parse
from controlplane.backends.redis.stores import RedisStores, open_redis
from controlplane.domain.message import Accepted, Duplicate, Full, IncomingFrame, Outcome, Receipt
from controlplane.domain.message import State as MessageState
from controlplane.domain.task import State
from controlplane.interfaces.agent_store import AgentStore
from controlplane.interfaces.audit_store import AuditStore
from controlplane.interfaces.event_log import EventLog
from controlplane.interfaces.identity_store import IdentityStore
from controlplane.interfaces.letter_store import LetterStore
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.schedule_store import ScheduleStore
from controlplane.interfaces.subscription_store import Subscription, SubscriptionStore
from controlplane.interfaces.task_store import TaskStore
from tests.contract import event_log, identity_store, mailbox_store, publication_store, subscription_store
from tests.contract.agent_store import AgentStoreContract, agent
from tests.contract.audit_store import AuditStoreContract, record
from tests.contract.samples import BOX, DAY_MS, HandClock, frame, message_id, task, task_id
from tests.contract.schedule_store import ScheduleStoreContract, schedule
from tests.contract.task_store import ManyTasksContract, TaskStoreContract
from tests.fakes.redis_server import ROOT, SECONDS, RedisServer, needs_redis, running

pytestmark = needs_redis


RIGHTS = re.search(r"^ACL SETUSER .*$", (ROOT / "docs" / "deploy" / "redis.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that is used as the user whom the documentation advises."""
    with running() as started:
        assert RIGHTS is not None
        rights = RIGHTS[0].replace(">PASSWORD", "nopass").replace("~conductor:*", "~test-*").split()
        assert started.ask(*rights) == b"+OK\r\n"
        started.user = "conductor@"
        yield started


@pytest.fixture
async def stores(server: RedisServer, clock: HandClock) -> AsyncIterator[RedisStores]:
    address = parse(server.fresh())
    opened = open_redis(address, clock, mailbox_store.LIMITS, event_log.KEPT, subscription_store.LIMITS)
    yield opened
    await opened.close()


class TestTasks(TaskStoreContract, ManyTasksContract):
    @pytest.fixture
    def tasks(self, stores: RedisStores) -> TaskStore:
        return stores.tasks


class TestMailboxes(mailbox_store.MailboxStoreContract):
    @pytest.fixture
    def mailboxes(self, stores: RedisStores) -> LetterStore:
        return stores.mailboxes

    @pytest.fixture
    async def keeping(self, server: RedisServer, clock: HandClock) -> AsyncIterator[Callable[[MailboxLimits], LetterStore]]:
        made: list[RedisStores] = []

        def make(limits: MailboxLimits) -> LetterStore:
            made.append(open_redis(parse(server.fresh()), clock, limits))
            return made[-1].mailboxes

        yield make
        for each in made:
            await each.close()


class TestPublications(publication_store.PublicationStoreContract):
    @pytest.fixture
    def mailboxes(self, stores: RedisStores) -> LetterStore:
        return stores.mailboxes


class TestSubscriptions(subscription_store.SubscriptionStoreContract):
    @pytest.fixture
    def subscriptions(self, stores: RedisStores) -> SubscriptionStore:
        return stores.subscriptions


class TestAudit(AuditStoreContract):
    @pytest.fixture
    def audit(self, stores: RedisStores) -> AuditStore:
        return stores.audit

    async def test_a_repeat_after_a_lost_answer_is_taken_as_stored(self, audit: AuditStore) -> None:
        assert await audit.append([record(1), record(2)])
        assert await audit.append([record(1), record(2)])
        assert not await audit.append([record(2), record(3, "another")])
        assert list(await audit.read(0, 10)) == [record(1), record(2)]


class TestSchedules(ScheduleStoreContract):
    @pytest.fixture
    def schedules(self, stores: RedisStores) -> ScheduleStore:
        return stores.schedules


class TestAgents(AgentStoreContract):
    @pytest.fixture
    def agents(self, stores: RedisStores) -> AgentStore:
        return stores.agents


class TestIdentities(identity_store.IdentityStoreContract):
    @pytest.fixture
    def identities(self, stores: RedisStores) -> IdentityStore:
        return stores.identities


class TestEvents(event_log.EventLogContract):
    @pytest.fixture
    def events(self, stores: RedisStores) -> EventLog:
        return stores.events


class TestRestart:
    """Everything is there for the next control plane, also after the server was killed, and counters go on."""

    @pytest.fixture
    def own(self) -> Iterator[RedisServer]:
        with running() as started:
            yield started

    def opened(self, server: RedisServer, clock: HandClock) -> RedisStores:
        return open_redis(parse(server.url), clock, mailbox_store.LIMITS, event_log.KEPT)

    def killed(self, server: RedisServer) -> None:
        server.stop(signal.SIGKILL)
        server.start()

    async def test_tasks_their_order_and_their_request_keys(self, own: RedisServer, clock: HandClock) -> None:
        first = self.opened(own, clock)
        queued = [await first.tasks.insert(task(number, request_id=str(number))) for number in range(5)]
        waiting = await first.tasks.insert(task(9, state=State.BLOCKED, waits_for=frozenset({task_id(1)})))
        moved = task(4, request_id="4", state=State.RUNNING, version=2)
        await first.tasks.save(moved)
        await first.close()
        self.killed(own)
        again = self.opened(own, clock)
        assert list(await again.tasks.ready(10)) == queued[:4]
        assert list(await again.tasks.waiting_for(task_id(1))) == [waiting]
        assert await again.tasks.insert(task(77, request_id="4")) == moved
        assert not await again.tasks.save(task(4, version=2))
        await again.close()

    async def test_messages_their_states_positions_bounds_and_ids(self, own: RedisServer, clock: HandClock) -> None:
        first = self.opened(own, clock)
        await mailbox_store.accept(first.mailboxes, frame(1, 2, 3), frame(*range(10, 25)))
        await first.mailboxes.record(BOX, [mailbox_store.seen(1, 3), mailbox_store.acked(2, 2)], 1)
        before = await first.mailboxes.read(BOX, 0, 1 << 20)
        await first.close()
        self.killed(own)
        again = self.opened(own, clock)
        assert await again.mailboxes.read(BOX, 0, 1 << 20) == before
        assert list(await again.mailboxes.append([frame(2), frame(30, 31, 32, 33), frame(34)])) == [
            Duplicate(),
            Full(),
            Accepted(19),
        ]
        assert (await mailbox_store.states(again.mailboxes))[2] is MessageState.ACKED
        await again.close()

    async def test_dead_letters_and_what_senders_are_owed(self, own: RedisServer, clock: HandClock) -> None:
        first = self.opened(own, clock)
        await mailbox_store.accept(first.mailboxes, frame(1, 2, 3), frame(4))
        await mailbox_store.kill(first.mailboxes, 1, 3)
        await first.mailboxes.redrive([mailbox_store.again(1, 1)], 1)
        await first.mailboxes.purge([mailbox_store.letter(2, 2)], 1)
        await first.mailboxes.record(BOX, [Receipt(4, 4, MessageState.BOUNCED, "no")], 1)
        before = await first.mailboxes.list("default", "", frozenset(), b"", 9)
        owed = await first.mailboxes.owed(9)
        await first.close()
        again = self.opened(own, clock)
        assert await again.mailboxes.list("default", "", frozenset(), b"", 9) == before
        assert await again.mailboxes.owed(9) == owed
        assert await again.mailboxes.end(BOX) == 5
        await again.close()

    async def test_subscriptions_publications_events_agents_schedules_and_identities(
        self, own: RedisServer, clock: HandClock
    ) -> None:
        first = self.opened(own, clock)
        await first.subscriptions.add("default", Subscription("news", "agent-1"))
        number = await publication_store.publish(first.mailboxes, 1, 2)
        await first.mailboxes.copy(number, 1, 1)
        await first.events.append([event_log.event(number) for number in range(event_log.KEPT + 5)])
        await first.agents.put(agent("a"))
        made = await first.schedules.insert(schedule("nightly"))
        await first.identities.add(identity_store.FULL)
        await first.identities.ban(identity_store.Ban(identity_store.DEFAULT_TENANT, agent("a").id, "why", 1.0))
        before = await first.identities.tokens(), await first.identities.bans()
        await first.close()
        self.killed(own)
        again = self.opened(own, clock)
        assert list(await again.subscriptions.mailboxes("default", "news")) == ["agent-1"]
        copies = await publication_store.spread(again.mailboxes, number)
        assert [copy.mailbox for copy in copies] == list(publication_store.BOXES[1:])
        assert await again.mailboxes.unfinished() == []
        assert await again.events.bounds() == (6, event_log.KEPT + 5)
        assert list(await again.agents.all()) == [agent("a")]
        assert await again.schedules.get(made.tenant_id, "nightly") == made
        assert await again.schedules.next_time() == made.next_time
        assert (await again.identities.tokens(), await again.identities.bans()) == before
        await again.close()


class TestConnection:
    """What happens to calls when the server does not do what it should."""

    @pytest.fixture
    def own(self) -> Iterator[RedisServer]:
        with running() as started:
            yield started

    @pytest.fixture
    async def stores(self, own: RedisServer, clock: HandClock) -> AsyncIterator[RedisStores]:
        opened = open_redis(parse(own.url), clock, mailbox_store.LIMITS)
        yield opened
        await opened.close()

    async def test_closing_finishes_what_was_begun_and_refuses_the_rest(self, own: RedisServer, clock: HandClock) -> None:
        stores = open_redis(parse(own.url), clock, mailbox_store.LIMITS)
        await stores.tasks.ready(1)
        await stores.server.know("default")
        begun = [asyncio.ensure_future(stores.tasks.insert(task(number))) for number in range(50)]
        await asyncio.sleep(0)
        await stores.close()
        await stores.close()
        assert len(await asyncio.gather(*begun)) == 50
        with pytest.raises(StoreUnavailableError, match="closed"):
            await stores.tasks.insert(task(99))
        with pytest.raises(StoreUnavailableError, match="closed"):
            await stores.tasks.ready(1)

    async def test_a_server_that_forgot_its_scripts_is_told_them_again(self, own: RedisServer, stores: RedisStores) -> None:
        await stores.tasks.insert(task(1))
        assert own.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
        await asyncio.gather(*(stores.tasks.insert(task(number)) for number in range(2, 30)))
        assert len(await stores.tasks.ready(100)) == 29

    async def test_a_killed_server_refuses_cleanly_and_is_used_again_when_it_is_back(
        self, own: RedisServer, stores: RedisStores
    ) -> None:
        await stores.tasks.insert(task(1))
        own.stop(signal.SIGKILL)
        with pytest.raises(StoreUnavailableError, match="nobody knows"):
            await stores.tasks.insert(task(2))
        for _ in range(2):
            with pytest.raises(StoreUnreachableError):
                await stores.tasks.insert(task(2))
        own.start()
        assert await stores.tasks.insert(task(3)) == task(3)
        assert [one.id for one in await stores.tasks.ready(9)] == [task_id(1), task_id(3)]

    async def test_what_was_acknowledged_while_the_server_was_killed_is_there(
        self, own: RedisServer, stores: RedisStores
    ) -> None:
        await stores.tasks.insert(task(0))
        acknowledged: list[str] = []

        async def insert(number: int) -> None:
            acknowledged.append((await stores.tasks.insert(task(number))).id)
            if len(acknowledged) == 500:
                own.stop(signal.SIGKILL)

        outcomes = await asyncio.gather(*(insert(number) for number in range(1, 5000)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert refused
        assert all(isinstance(outcome, StoreUnavailableError) for outcome in refused)
        own.start()
        assert {one.id for one in await stores.tasks.ready(10_000)} >= set(acknowledged)

    async def test_messages_that_are_repeated_until_they_are_answered_arrive_once_and_in_order_whatever_is_killed(
        self, own: RedisServer, clock: HandClock
    ) -> None:
        stores = open_redis(parse(own.url), clock, MailboxLimits())
        answered, changed, up = 0, asyncio.Condition(), asyncio.Event()
        up.set()

        async def told(each: IncomingFrame) -> Outcome:
            while True:
                try:
                    (outcome,) = await stores.mailboxes.append([each])
                    return outcome
                except StoreUnavailableError:
                    await asyncio.wait_for(up.wait(), SECONDS)

        async def send(sender: int) -> None:
            nonlocal answered
            for number in range(100):
                outcome = await told(frame(1000 * sender + number, sender=f"agent/sender-{sender}"))
                assert isinstance(outcome, Accepted | Duplicate)
                async with changed:
                    answered += 1
                    changed.notify_all()

        async def kill_now_and_then() -> None:
            for least in (50, 150, 300):
                async with changed:
                    await changed.wait_for(lambda least=least: answered >= least)
                up.clear()
                await asyncio.to_thread(own.stop, signal.SIGKILL)
                await asyncio.to_thread(own.start)
                up.set()

        await asyncio.gather(*(send(sender) for sender in range(4)), kill_now_and_then())
        arrived = await stores.mailboxes.read(BOX, 0, 1 << 30)
        assert [one.first_position for one in arrived] == list(range(1, 401))
        for sender in range(4):
            of_sender = [one.message_ids for one in arrived if one.sender == f"agent/sender-{sender}"]
            assert of_sender == [message_id(1000 * sender + number) for number in range(100)]
        await stores.close()

    async def test_a_server_that_forgot_everything_is_filled_anew(self, own: RedisServer, stores: RedisStores) -> None:
        await stores.tasks.insert(task(1))
        assert own.ask("FLUSHALL") == b"+OK\r\n"
        own.stop()
        own.start()
        with pytest.raises(StoreUnavailableError):
            await stores.tasks.insert(task(2))
        await stores.tasks.insert(task(3))
        assert [one.id for one in await stores.tasks.ready(9)] == [task_id(3)]

    async def test_a_cancelled_caller_leaves_no_answer_to_another(self, stores: RedisStores) -> None:
        await stores.agents.put(agent("a"))
        for _ in range(50):
            asked = asyncio.ensure_future(stores.agents.get(agent("a").tenant_id, agent("a").id))
            await asyncio.sleep(0)
            asked.cancel()
            assert await stores.mailboxes.end(BOX) == 0

    async def test_a_full_memory_is_said_nothing_is_stored_in_part_and_what_is_old_can_be_forgotten(
        self, own: RedisServer, stores: RedisStores
    ) -> None:
        await stores.tasks.insert(task(1))
        await mailbox_store.accept(stores.mailboxes, frame(1), frame(2))
        await stores.mailboxes.record(BOX, [mailbox_store.acked(1, 1)], 1)
        assert own.ask("CONFIG", "SET", "maxmemory", "1") == b"+OK\r\n"
        for refused in (stores.tasks.insert(task(2)), stores.mailboxes.append([frame(3)]), stores.agents.put(agent("a"))):
            with pytest.raises(StoreUnavailableError, match="memory of Redis is full"):
                await refused
        await stores.mailboxes.expire(DAY_MS + 1)
        assert own.ask("CONFIG", "SET", "maxmemory", "0") == b"+OK\r\n"
        assert list(await stores.tasks.ready(9)) == [task(1)]
        assert await mailbox_store.states(stores.mailboxes) == {2: MessageState.ACCEPTED}
        assert await mailbox_store.accept(stores.mailboxes, frame(3), frame(1)) == [3, 4]

    async def test_two_control_planes_moving_the_same_messages_move_each_once(self, own: RedisServer, clock: HandClock) -> None:
        pair = [open_redis(parse(own.url), clock, mailbox_store.LIMITS) for _ in range(2)]
        await mailbox_store.accept(pair[0].mailboxes, *(frame(number) for number in range(1, 11)))
        calls = [
            stores.mailboxes.record(BOX, [Receipt(number, number, state, "why")], 1)
            for number in range(1, 11)
            for stores in pair
            for state in (MessageState.BOUNCED, MessageState.DEAD)
        ]
        ended = [record.position for records in await asyncio.gather(*calls) for record in records]
        assert sorted(ended) == list(range(1, 11))
        assert await pair[0].mailboxes.read(BOX, 0, 1 << 20) == []
        for stores in pair:
            await stores.close()

"""The SQLite backend keeps the contracts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.sqlite.stores import SqliteStores, open_sqlite
from controlplane.domain.message import Accepted, Duplicate, Full, Receipt
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
from tests.contract import audit_store, event_log, identity_store, mailbox_store, publication_store, subscription_store
from tests.contract.agent_store import AgentStoreContract, agent
from tests.contract.samples import BOX, HandClock, frame, task, task_id
from tests.contract.schedule_store import ScheduleStoreContract, schedule
from tests.contract.task_store import ManyTasksContract, TaskStoreContract


@pytest.fixture
async def stores(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStores]:
    path, subscriptions = tmp_path / "store" / "conductor.db", subscription_store.LIMITS
    opened = open_sqlite(path, clock, mailbox_store.LIMITS, event_log.KEPT, subscriptions)
    yield opened
    await opened.close()


class TestTasks(TaskStoreContract, ManyTasksContract):
    @pytest.fixture
    def tasks(self, stores: SqliteStores) -> TaskStore:
        return stores.tasks


class TestMailboxes(mailbox_store.MailboxStoreContract):
    @pytest.fixture
    def mailboxes(self, stores: SqliteStores) -> LetterStore:
        return stores.mailboxes

    @pytest.fixture
    async def keeping(self, tmp_path: Path, clock: HandClock) -> AsyncIterator[Callable[[MailboxLimits], LetterStore]]:
        made: list[SqliteStores] = []

        def make(limits: MailboxLimits) -> LetterStore:
            made.append(open_sqlite(tmp_path / "keeping" / "conductor.db", clock, limits))
            return made[-1].mailboxes

        yield make
        for each in made:
            await each.close()


class TestPublications(publication_store.PublicationStoreContract):
    @pytest.fixture
    def mailboxes(self, stores: SqliteStores) -> LetterStore:
        return stores.mailboxes


class TestSubscriptions(subscription_store.SubscriptionStoreContract):
    @pytest.fixture
    def subscriptions(self, stores: SqliteStores) -> SubscriptionStore:
        return stores.subscriptions


class TestSchedules(ScheduleStoreContract):
    @pytest.fixture
    def schedules(self, stores: SqliteStores) -> ScheduleStore:
        return stores.schedules


class TestAgents(AgentStoreContract):
    @pytest.fixture
    def agents(self, stores: SqliteStores) -> AgentStore:
        return stores.agents


class TestIdentities(identity_store.IdentityStoreContract):
    @pytest.fixture
    def identities(self, stores: SqliteStores) -> IdentityStore:
        return stores.identities


class TestAudit(audit_store.AuditStoreContract):
    @pytest.fixture
    def audit(self, stores: SqliteStores) -> AuditStore:
        return stores.audit


class TestEvents(event_log.EventLogContract):
    @pytest.fixture
    def events(self, stores: SqliteStores) -> EventLog:
        return stores.events


class TestRestart:
    """Everything is there after the file was opened again, and counters go on."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "store" / "conductor.db"

    def opened(self, path: Path, clock: HandClock) -> SqliteStores:
        return open_sqlite(path, clock, mailbox_store.LIMITS, event_log.KEPT)

    async def test_tasks_their_order_and_their_request_keys(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        queued = [await first.tasks.insert(task(number, request_id=str(number))) for number in range(5)]
        waiting = await first.tasks.insert(task(9, state=State.BLOCKED, waits_for=frozenset({task_id(1)})))
        moved = task(4, request_id="4", state=State.RUNNING, version=2)
        await first.tasks.save(moved)
        await first.close()
        again = self.opened(path, clock)
        assert list(await again.tasks.ready(10)) == queued[:4]
        assert list(await again.tasks.waiting_for(task_id(1))) == [waiting]
        assert await again.tasks.insert(task(77, request_id="4")) == moved
        assert not await again.tasks.save(task(4, version=2))
        await again.close()

    async def test_dead_letters_and_what_senders_are_owed(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        await mailbox_store.accept(first.mailboxes, frame(1, 2, 3), frame(4))
        await mailbox_store.kill(first.mailboxes, 1, 3)
        await first.mailboxes.redrive([mailbox_store.again(1, 1)], 1)
        await first.mailboxes.purge([mailbox_store.letter(2, 2)], 1)
        await first.mailboxes.record(BOX, [Receipt(4, 4, MessageState.BOUNCED, "no")], 1)
        before = await first.mailboxes.list("default", "", frozenset(), b"", 9)
        owed = await first.mailboxes.owed(9)
        await first.close()
        again = self.opened(path, clock)
        assert await again.mailboxes.list("default", "", frozenset(), b"", 9) == before
        assert [(record.position, record.redrives) for record in before] == [(4, 0), (3, 0), (5, 1)]
        assert await again.mailboxes.owed(9) == owed
        assert len(owed) == 1
        assert await again.mailboxes.end(BOX) == 5
        await again.close()

    async def test_messages_their_states_positions_bounds_and_ids(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        await mailbox_store.accept(first.mailboxes, frame(1, 2, 3), frame(*range(10, 25)))
        await first.mailboxes.record(BOX, [mailbox_store.seen(1, 3), mailbox_store.acked(2, 2)], 1)
        before = await first.mailboxes.read(BOX, 0, 1 << 20)
        await first.close()
        again = self.opened(path, clock)
        assert await again.mailboxes.read(BOX, 0, 1 << 20) == before
        assert list(await again.mailboxes.append([frame(2), frame(30, 31, 32, 33), frame(34)])) == [
            Duplicate(),
            Full(),
            Accepted(19),
        ]
        assert (await mailbox_store.states(again.mailboxes))[2] is MessageState.ACKED
        await again.close()

    async def test_subscriptions_and_publications_whose_copies_were_not_all_made(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        await first.subscriptions.add("default", Subscription("news", "agent-1"))
        number = await publication_store.publish(first.mailboxes, 1, 2)
        await first.mailboxes.copy(number, 1, 1)
        await first.close()
        again = self.opened(path, clock)
        assert list(await again.subscriptions.mailboxes("default", "news")) == ["agent-1"]
        (waiting,) = await again.mailboxes.unfinished()
        copies = await publication_store.spread(again.mailboxes, waiting.number)
        assert [copy.mailbox for copy in copies] == list(publication_store.BOXES[1:])
        assert await again.mailboxes.publish(publication_store.publication(2)) == (Duplicate(3), 0)
        await again.close()

    async def test_tokens_and_bans(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        await first.identities.add(identity_store.token(1))
        await first.identities.add(identity_store.FULL)
        await first.identities.redeem(identity_store.token(1).sha256, 1.0)
        await first.identities.ban(identity_store.Ban(identity_store.DEFAULT_TENANT, agent("a").id, "why", 1.0))
        before = await first.identities.tokens(), await first.identities.bans()
        await first.close()
        again = self.opened(path, clock)
        assert (await again.identities.tokens(), await again.identities.bans()) == before
        assert await again.identities.redeem(identity_store.token(1).sha256, 1.0) is None
        await again.close()

    async def test_schedules(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        made = await first.schedules.insert(schedule("nightly"))
        await first.close()
        again = self.opened(path, clock)
        assert await again.schedules.get(made.tenant_id, "nightly") == made
        assert await again.schedules.next_time() == made.next_time
        await again.close()

    async def test_the_audit_chain(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        assert await first.audit.append([audit_store.record(1), audit_store.record(2)])
        await first.audit.state(audit_store.head(2))
        await first.close()
        again = self.opened(path, clock)
        assert await again.audit.newest() == audit_store.record(2)
        assert list(await again.audit.heads()) == [audit_store.head(2)]
        assert not await again.audit.append([audit_store.record(2)])
        await again.close()

    async def test_events_and_agents(self, path: Path, clock: HandClock) -> None:
        first = self.opened(path, clock)
        for number in range(event_log.KEPT + 5):
            await first.events.append([event_log.event(number)])
        await first.agents.put(agent("a"))
        await first.close()
        again = self.opened(path, clock)
        assert await again.events.bounds() == (6, event_log.KEPT + 5)
        assert (await again.events.append([event_log.event(0)]))[0].cursor == event_log.KEPT + 6
        assert list(await again.agents.all()) == [agent("a")]
        await again.close()

    async def test_closing_finishes_what_was_begun_and_refuses_the_rest(self, path: Path, clock: HandClock) -> None:
        stores = self.opened(path, clock)
        begun = [asyncio.ensure_future(stores.tasks.insert(task(number))) for number in range(50)]
        await asyncio.sleep(0)
        await stores.close()
        await stores.close()
        assert len(await asyncio.gather(*begun)) == 50
        with pytest.raises(StoreUnavailableError, match="closed"):
            await stores.tasks.insert(task(99))
        with pytest.raises(StoreUnavailableError, match="closed"):
            await stores.tasks.ready(1)
        again = self.opened(path, clock)
        assert len(await again.tasks.ready(100)) == 50
        await again.close()

"""The SQLite backend keeps the contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.backends.sqlite.stores import SqliteStores, open_sqlite
from controlplane.interfaces.agent_store import AgentStore
from controlplane.interfaces.event_log import EventLog
from controlplane.interfaces.mailbox_store import MailboxStore
from controlplane.interfaces.task_store import TaskStore
from tests.contract import event_log, mailbox_store
from tests.contract.agent_store import AgentStoreContract
from tests.contract.samples import HandClock
from tests.contract.task_store import TaskStoreContract


@pytest.fixture
async def stores(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStores]:
    opened = open_sqlite(tmp_path / "store" / "conductor.db", clock, mailbox_store.LIMITS, event_log.KEPT)
    yield opened
    await opened.close()


class TestTasks(TaskStoreContract):
    @pytest.fixture
    def tasks(self, stores: SqliteStores) -> TaskStore:
        return stores.tasks


class TestMailboxes(mailbox_store.MailboxStoreContract):
    @pytest.fixture
    def mailboxes(self, stores: SqliteStores) -> MailboxStore:
        return stores.mailboxes


class TestAgents(AgentStoreContract):
    @pytest.fixture
    def agents(self, stores: SqliteStores) -> AgentStore:
        return stores.agents


class TestEvents(event_log.EventLogContract):
    @pytest.fixture
    def events(self, stores: SqliteStores) -> EventLog:
        return stores.events

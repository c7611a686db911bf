"""The memory backend keeps the contracts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.audit_store import MemoryAuditStore
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.identity_store import MemoryIdentityStore
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.memory.output_log import MemoryOutputLog
from controlplane.backends.memory.schedule_store import MemoryScheduleStore
from controlplane.backends.memory.subscription_store import MemorySubscriptionStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.interfaces.mailbox_store import MailboxLimits
from tests.contract import event_log, mailbox_store, output_log, subscription_store
from tests.contract.agent_store import AgentStoreContract
from tests.contract.audit_store import AuditStoreContract
from tests.contract.identity_store import IdentityStoreContract
from tests.contract.publication_store import PublicationStoreContract
from tests.contract.samples import HandClock
from tests.contract.schedule_store import ScheduleStoreContract
from tests.contract.task_store import ManyTasksContract, TaskStoreContract


class TestTasks(TaskStoreContract, ManyTasksContract):
    @pytest.fixture
    def tasks(self, clock: HandClock) -> MemoryTaskStore:
        return MemoryTaskStore(clock)


class TestMailboxes(mailbox_store.MailboxStoreContract):
    @pytest.fixture
    def mailboxes(self) -> MemoryMailboxStore:
        return MemoryMailboxStore(mailbox_store.LIMITS)

    @pytest.fixture
    def keeping(self) -> Callable[[MailboxLimits], MemoryMailboxStore]:
        return MemoryMailboxStore


class TestPublications(PublicationStoreContract):
    @pytest.fixture
    def mailboxes(self) -> MemoryMailboxStore:
        return MemoryMailboxStore(mailbox_store.LIMITS)


class TestSubscriptions(subscription_store.SubscriptionStoreContract):
    @pytest.fixture
    def subscriptions(self) -> MemorySubscriptionStore:
        return MemorySubscriptionStore(subscription_store.LIMITS)


class TestSchedules(ScheduleStoreContract):
    @pytest.fixture
    def schedules(self) -> MemoryScheduleStore:
        return MemoryScheduleStore()


class TestAgents(AgentStoreContract):
    @pytest.fixture
    def agents(self) -> MemoryAgentStore:
        return MemoryAgentStore()


class TestIdentities(IdentityStoreContract):
    @pytest.fixture
    def identities(self) -> MemoryIdentityStore:
        return MemoryIdentityStore()


class TestAudit(AuditStoreContract):
    @pytest.fixture
    def audit(self) -> MemoryAuditStore:
        return MemoryAuditStore()


class TestEvents(event_log.EventLogContract):
    @pytest.fixture
    def events(self) -> MemoryEventLog:
        return MemoryEventLog(event_log.KEPT)


class TestOutputs(output_log.OutputLogContract):
    @pytest.fixture
    def outputs(self) -> MemoryOutputLog:
        return MemoryOutputLog(output_log.KEPT)

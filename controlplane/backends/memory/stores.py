"""All stores in memory: for tests, benchmarks and `queue: memory`."""

from __future__ import annotations

from dataclasses import dataclass

from claude_conductor.clock import Clock
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.audit_store import MemoryAuditStore
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.identity_store import MemoryIdentityStore
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.memory.schedule_store import MemoryScheduleStore
from controlplane.backends.memory.subscription_store import MemorySubscriptionStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import SubscriptionLimits


@dataclass(frozen=True, slots=True)
class MemoryStores(Stores):
    """Stores that end with the process."""


def open_memory(clock: Clock, limits: MailboxLimits, subscriptions: SubscriptionLimits | None = None) -> MemoryStores:
    """Return new, empty stores."""
    return MemoryStores(
        tasks=MemoryTaskStore(clock),
        mailboxes=MemoryMailboxStore(limits),
        agents=MemoryAgentStore(),
        events=MemoryEventLog(),
        subscriptions=MemorySubscriptionStore(subscriptions or SubscriptionLimits()),
        identities=MemoryIdentityStore(),
        audit=MemoryAuditStore(),
        schedules=MemoryScheduleStore(),
    )

"""The stores a control plane is built on, whatever the backend."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from controlplane.interfaces.agent_store import AgentStore
from controlplane.interfaces.audit_store import AuditStore
from controlplane.interfaces.event_log import EventLog
from controlplane.interfaces.identity_store import IdentityStore
from controlplane.interfaces.letter_store import LetterStore
from controlplane.interfaces.schedule_store import ScheduleStore
from controlplane.interfaces.subscription_store import SubscriptionStore
from controlplane.interfaces.task_store import TaskStore


@dataclass(frozen=True, slots=True)
class Stores:
    """One backend's stores."""

    tasks: TaskStore
    mailboxes: LetterStore
    agents: AgentStore
    events: EventLog
    subscriptions: SubscriptionStore
    identities: IdentityStore
    audit: AuditStore
    schedules: ScheduleStore

    async def hold(self) -> None:
        """Keep the stores for this process; return only when another one has taken them over."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Finish what was begun and let go of everything; nothing may be called afterwards but this again."""

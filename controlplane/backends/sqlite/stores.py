"""All stores in one SQLite file: the default of a control plane that is alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from claude_conductor.clock import Clock
from controlplane.backends.sqlite.agent_store import SqliteAgentStore
from controlplane.backends.sqlite.audit_store import SqliteAuditStore
from controlplane.backends.sqlite.database import Database
from controlplane.backends.sqlite.event_log import SqliteEventLog
from controlplane.backends.sqlite.identity_store import SqliteIdentityStore
from controlplane.backends.sqlite.mailbox_store import SqliteMailboxStore
from controlplane.backends.sqlite.schedule_store import SqliteScheduleStore
from controlplane.backends.sqlite.subscription_store import SqliteSubscriptionStore
from controlplane.backends.sqlite.task_store import SqliteTaskStore
from controlplane.interfaces.event_log import KEPT_EVENTS
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.stores import Stores
from controlplane.interfaces.subscription_store import SubscriptionLimits


@dataclass(frozen=True, slots=True)
class SqliteStores(Stores):
    """Stores that survive the process and the machine."""

    database: Database

    async def close(self) -> None:
        """See Stores."""
        await self.database.close()


def open_sqlite(
    path: Path,
    clock: Clock,
    limits: MailboxLimits,
    kept_events: int = KEPT_EVENTS,
    subscriptions: SubscriptionLimits | None = None,
) -> SqliteStores:
    """Open the stores of a database file, made if it is missing.

    Raises:
        StoreUnavailableError: It cannot be opened, is damaged, or another process has it open.
        SettingsError: It belongs to another program or a newer Conductor.
    """
    database = Database.open(path)
    return SqliteStores(
        tasks=SqliteTaskStore(database, clock),
        mailboxes=SqliteMailboxStore(database, limits),
        agents=SqliteAgentStore(database),
        events=SqliteEventLog(database, kept_events),
        subscriptions=SqliteSubscriptionStore(database, subscriptions or SubscriptionLimits()),
        identities=SqliteIdentityStore(database),
        audit=SqliteAuditStore(database),
        schedules=SqliteScheduleStore(database),
        database=database,
    )

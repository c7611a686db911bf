"""Which mailboxes are subscribed to which topics, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from claude_conductor.errors import SubscriptionLimitError
from controlplane.backends.sqlite.database import Database
from controlplane.interfaces.subscription_store import Subscription, SubscriptionLimits


class SqliteSubscriptionStore:
    """A SubscriptionStore with a row for each subscription."""

    def __init__(self, database: Database, limits: SubscriptionLimits) -> None:
        self._database = database
        self._limits = limits

    async def add(self, tenant_id: str, subscription: Subscription) -> None:
        """See SubscriptionStore."""
        row = (tenant_id, subscription.topic, subscription.mailbox)

        def change(db: sqlite3.Connection) -> SubscriptionLimitError | None:
            if db.execute("SELECT 1 FROM subscriptions WHERE tenant = ? AND topic = ? AND mailbox = ?", row).fetchone():
                return None
            count = "SELECT COUNT(*) FROM subscriptions WHERE tenant = ? AND"
            (topics,) = db.execute(f"{count} mailbox = ?", (tenant_id, subscription.mailbox)).fetchone()
            if topics >= self._limits.topics:
                return SubscriptionLimitError(mailbox=subscription.mailbox, limit=self._limits.topics)
            (mailboxes,) = db.execute(f"{count} topic = ?", (tenant_id, subscription.topic)).fetchone()
            if mailboxes >= self._limits.mailboxes:
                return SubscriptionLimitError(topic=subscription.topic, limit=self._limits.mailboxes)
            db.execute("INSERT INTO subscriptions VALUES (?, ?, ?)", row)
            return None

        refused = await self._database.write(change)
        if refused is not None:
            raise refused

    async def remove(self, tenant_id: str, subscription: Subscription) -> None:
        """See SubscriptionStore."""
        sql = "DELETE FROM subscriptions WHERE tenant = ? AND topic = ? AND mailbox = ?"
        row = (tenant_id, subscription.topic, subscription.mailbox)
        await self._database.write(lambda db: db.execute(sql, row).rowcount)

    async def remove_all(self, tenant_id: str, mailbox: str) -> None:
        """See SubscriptionStore."""
        which = "FROM subscriptions WHERE tenant = ? AND mailbox = ?"
        row = (tenant_id, mailbox)
        if await self._database.read(lambda db: db.execute(f"SELECT 1 {which}", row).fetchone()):  # most mailboxes have none
            await self._database.write(lambda db: db.execute(f"DELETE {which}", row).rowcount)

    async def mailboxes(self, tenant_id: str, topic: str) -> Sequence[str]:
        """See SubscriptionStore."""
        sql = "SELECT mailbox FROM subscriptions WHERE tenant = ? AND topic = ? ORDER BY mailbox"
        rows = await self._database.read(lambda db: db.execute(sql, (tenant_id, topic)).fetchall())
        return [mailbox for (mailbox,) in rows]

    async def list(
        self, tenant_id: str, topic: str, mailbox: str, after: Subscription | None, limit: int
    ) -> Sequence[Subscription]:
        """See SubscriptionStore."""
        sql = "SELECT topic, mailbox FROM subscriptions WHERE tenant = ? AND (topic, mailbox) > (?, ?)"
        arguments: list[object] = [tenant_id, *((after.topic, after.mailbox) if after is not None else ("", ""))]
        for column, value in (("topic", topic), ("mailbox", mailbox)):
            if value:
                sql += f" AND {column} = ?"
                arguments.append(value)
        sql += " ORDER BY topic, mailbox LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(sql, (*arguments, limit)).fetchall())
        return [Subscription(*row) for row in rows]

"""Who may come in, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from claude_conductor.ids import AgentId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.sqlite.database import Database
from controlplane.domain.identity import Ban, Purpose, Token


class SqliteIdentityStore:
    """An IdentityStore with a row for each token and each ban. The one writer makes every change atomic."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, token: Token) -> None:
        """See IdentityStore."""
        row = (token.id, token.sha256, token.kept_until, encode(token))
        await self._database.write(lambda db: db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", row).rowcount)

    async def redeem(self, sha256: str, now: float) -> Token | None:
        """See IdentityStore."""

        def change(db: sqlite3.Connection) -> Token | None:
            row = db.execute("SELECT body FROM tokens WHERE sha256 = ?", (sha256,)).fetchone()
            found = decode(Token, row[0]) if row else None
            if found is None or found.purpose is not Purpose.JOIN or not found.valid(now):
                return None
            _write(db, replace(found, redeem_time=now))
            return found

        return await self._database.write(change)

    async def revoke(self, token_ids: Sequence[str], now: float) -> None:
        """See IdentityStore."""

        def change(db: sqlite3.Connection) -> None:
            for each in token_ids:
                row = db.execute("SELECT body FROM tokens WHERE id = ?", (each,)).fetchone()
                found = decode(Token, row[0]) if row else None
                if found is not None and not found.revoke_time:
                    _write(db, replace(found, revoke_time=now))

        await self._database.write(change)

    async def forget(self, now: float) -> None:
        """See IdentityStore."""
        await self._database.write(lambda db: db.execute("DELETE FROM tokens WHERE kept_until < ?", (now,)).rowcount)

    async def tokens(self) -> Sequence[Token]:
        """See IdentityStore."""
        rows = await self._database.read(lambda db: db.execute("SELECT body FROM tokens ORDER BY id").fetchall())
        return [decode(Token, body) for (body,) in rows]

    async def ban(self, ban: Ban) -> None:
        """See IdentityStore."""
        row = (ban.tenant_id, ban.agent_id, encode(ban))
        await self._database.write(lambda db: db.execute("INSERT OR REPLACE INTO bans VALUES (?, ?, ?)", row).rowcount)

    async def lift(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """See IdentityStore."""
        sql, row = "DELETE FROM bans WHERE tenant = ? AND agent = ?", (tenant_id, agent_id)
        await self._database.write(lambda db: db.execute(sql, row).rowcount)

    async def bans(self) -> Sequence[Ban]:
        """See IdentityStore."""
        rows = await self._database.read(lambda db: db.execute("SELECT body FROM bans ORDER BY tenant, agent").fetchall())
        return [decode(Ban, body) for (body,) in rows]


def _write(db: sqlite3.Connection, token: Token) -> None:
    db.execute("UPDATE tokens SET body = ? WHERE id = ?", (encode(token), token.id))

"""Who may come in, in Redis: bodies in hashes, exchanged only if nobody was faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from claude_conductor.ids import AgentId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.redis.publications import attempts
from controlplane.backends.redis.server import Server
from controlplane.domain.identity import Ban, Purpose, Token


class RedisIdentityStore:
    """An IdentityStore; tokens and bans of all tenants are in one slot."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tokens = server.key("g", "tokens")
        self._bans = server.key("g", "bans")

    async def add(self, token: Token) -> None:
        """See IdentityStore."""
        await self._server.change("add_token", "g", token.id, encode(token), token.sha256, repr(token.kept_until))

    async def redeem(self, sha256: str, now: float) -> Token | None:
        """See IdentityStore."""
        for _ in attempts():
            token_id = await self._server.ask("HGET", self._server.key("g", "token_hashes"), sha256)
            body: bytes | None = await self._server.ask("HGET", self._tokens, token_id) if token_id is not None else None
            found = decode(Token, body.decode()) if body is not None else None
            if found is None or body is None or found.purpose is not Purpose.JOIN or not found.valid(now):
                return None
            if await self._server.change("swap_tokens", "g", found.id, body, encode(replace(found, redeem_time=now))):
                return found
        return None

    async def revoke(self, token_ids: Sequence[str], now: float) -> None:
        """See IdentityStore."""
        for _ in attempts():
            swaps: list[str | bytes] = []
            for body in await self._server.ask("HMGET", self._tokens, *token_ids) if token_ids else ():
                found = decode(Token, body.decode()) if body is not None else None
                if found is not None and not found.revoke_time:
                    swaps += [found.id, body, encode(replace(found, revoke_time=now))]
            if not swaps or await self._server.change("swap_tokens", "g", *swaps):
                return

    async def forget(self, now: float) -> None:
        """See IdentityStore."""
        while await self._server.change("forget_tokens", "g", f"({now!r}"):
            pass  # some at a time

    async def tokens(self) -> Sequence[Token]:
        """See IdentityStore."""
        every = [decode(Token, body.decode()) for body in await self._server.ask("HVALS", self._tokens)]
        return sorted(every, key=lambda token: token.id)

    async def ban(self, ban: Ban) -> None:
        """See IdentityStore."""
        await self._server.write("HSET", self._bans, _field(ban.tenant_id, ban.agent_id), encode(ban))

    async def lift(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """See IdentityStore."""
        await self._server.write("HDEL", self._bans, _field(tenant_id, agent_id))

    async def bans(self) -> Sequence[Ban]:
        """See IdentityStore."""
        every = [decode(Ban, body.decode()) for body in await self._server.ask("HVALS", self._bans)]
        return sorted(every, key=lambda ban: (ban.tenant_id, ban.agent_id))


def _field(tenant_id: TenantId, agent_id: AgentId) -> str:
    return f"{tenant_id}/{agent_id}"

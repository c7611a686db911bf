"""Who may come in, as long as the process lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from claude_conductor.ids import AgentId, TenantId
from controlplane.domain.identity import Ban, Purpose, Token


class MemoryIdentityStore:
    """An IdentityStore in dictionaries. No method waits, so each is atomic."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._bans: dict[tuple[TenantId, AgentId], Ban] = {}

    async def add(self, token: Token) -> None:
        """See IdentityStore."""
        self._tokens[token.id] = token

    async def redeem(self, sha256: str, now: float) -> Token | None:
        """See IdentityStore."""
        found = next((each for each in self._tokens.values() if each.sha256 == sha256), None)
        if found is None or found.purpose is not Purpose.JOIN or not found.valid(now):
            return None
        self._tokens[found.id] = replace(found, redeem_time=now)
        return found

    async def revoke(self, token_ids: Sequence[str], now: float) -> None:
        """See IdentityStore."""
        for each in token_ids:
            if each in self._tokens and not self._tokens[each].revoke_time:
                self._tokens[each] = replace(self._tokens[each], revoke_time=now)

    async def forget(self, now: float) -> None:
        """See IdentityStore."""
        self._tokens = {name: token for name, token in self._tokens.items() if token.kept_until >= now}

    async def tokens(self) -> Sequence[Token]:
        """See IdentityStore."""
        return [self._tokens[each] for each in sorted(self._tokens)]

    async def ban(self, ban: Ban) -> None:
        """See IdentityStore."""
        self._bans[ban.tenant_id, ban.agent_id] = ban

    async def lift(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """See IdentityStore."""
        self._bans.pop((tenant_id, agent_id), None)

    async def bans(self) -> Sequence[Ban]:
        """See IdentityStore."""
        return [self._bans[key] for key in sorted(self._bans)]

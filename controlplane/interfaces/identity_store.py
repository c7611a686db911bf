"""Which tokens were given to whom, and who is kept out?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from claude_conductor.ids import AgentId, TenantId
from controlplane.domain.identity import Ban, Token


class IdentityStore(Protocol):
    """Durable tokens and bans. All methods may be called concurrently; each is atomic, and durable when it returns."""

    async def add(self, token: Token) -> None:
        """Store a new token; its id and its SHA-256 are new."""

    async def redeem(self, sha256: str, now: float) -> Token | None:
        """Mark a join token as used, and return it as it was before; of any number of concurrent calls one gets it.

        None: there is no such join token, or it is not valid at `now`.
        """

    async def revoke(self, token_ids: Sequence[str], now: float) -> None:
        """Revoke tokens; those that are revoked already, or not there, change nothing."""

    async def forget(self, now: float) -> None:
        """Remove the tokens that need not be kept any more (`Token.kept_until`)."""

    async def tokens(self) -> Sequence[Token]:
        """Return every token of every tenant, by id."""

    async def ban(self, ban: Ban) -> None:
        """Keep an agent out. Last one wins."""

    async def lift(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """Let an agent in again, if it was kept out."""

    async def bans(self) -> Sequence[Ban]:
        """Return every ban, by (tenant, agent)."""

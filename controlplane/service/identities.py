"""Who has this token, whose certificate is this, and is the agent kept out? Answered from memory; the store is for restarts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import (
    AgentQuarantinedError,
    JoinRefusedError,
    StoreUnavailableError,
    TokenNotFoundError,
    UnauthenticatedError,
)
from claude_conductor.ids import AgentId, Mint, TenantId
from controlplane.domain.identity import Ban, Purpose, Role, Token
from controlplane.interfaces.identity_store import IdentityStore

_log = logging.getLogger(__name__)
AGENT_TOKEN_SECONDS: Final = 900.0
_FORGET_SECONDS: Final = 600.0
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Wish:
    """A token to be made; times in seconds."""

    purpose: Purpose
    tenant_id: TenantId
    role: Role
    seconds: float
    name: str = ""
    agent_id: AgentId = AgentId("")
    thumbprint: str = ""
    certificate_end: float = 0.0
    level: str = ""


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret in hexadecimal; 256 random bits need nothing slower."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Identities:
    """Every token and ban there is.

    `on_revoked` and `on_banned` are called with each token and agent that is not let in any more; calls of theirs may go on.
    """

    def __init__(
        self, store: IdentityStore, clock: Clock, mint: Mint, random: Callable[[int], str] = secrets.token_urlsafe
    ) -> None:
        """Know nobody yet.

        Args:
            store: Of tokens and bans.
            clock: Tells the time.
            mint: Of ids.
            random: Returns a text of so many random bytes.
        """
        self._store = store
        self._clock = clock
        self._mint = mint
        self._random = random
        self._tokens: dict[str, Token] = {}
        self._by_certificate: dict[str, Token] = {}
        """The newest token of each certificate."""
        self._bans: dict[tuple[TenantId, AgentId], Ban] = {}
        self.on_revoked: Callable[[Token], None] = lambda _: None
        self.on_banned: Callable[[TenantId, AgentId], None] = lambda *_: None

    async def load(self) -> None:
        """Read what there is, and forget what ended long ago."""
        await self._store.forget(self._clock.now())
        for token in await self._store.tokens():
            self._remember(token)
        self._bans = {(ban.tenant_id, ban.agent_id): ban for ban in await self._store.bans()}

    async def create(self, wish: Wish, suffix: str = "") -> tuple[str, Token]:
        """Return a new secret, which nobody can ask for again, and its token.

        Args:
            wish: What it is for.
            suffix: Is added to the secret: what its owner has to know besides.
        """
        secret, now = self._random(_BYTES) + suffix, self._clock.now()
        token = Token(
            self._mint("token_"),
            digest(secret),
            wish.purpose,
            wish.tenant_id,
            wish.role,
            now,
            now + wish.seconds,
            wish.name,
            wish.agent_id,
            wish.thumbprint,
            wish.certificate_end,
            wish.level,
        )
        await self._store.add(token)
        self._remember(token)
        return secret, token

    async def issued(self, tenant_id: TenantId, agent_id: AgentId, thumbprint: str, end: float) -> tuple[str, Token]:
        """Note a certificate of an agent, and return the secret and the token that go with it.

        Args:
            tenant_id: Whose agent.
            agent_id: Its id.
            thumbprint: SHA-256 of the certificate, hexadecimal.
            end: When the certificate ends.
        """
        wish = Wish(
            *(Purpose.AGENT, tenant_id, Role.SIDECAR, AGENT_TOKEN_SECONDS),
            agent_id=agent_id,
            thumbprint=thumbprint,
            certificate_end=end,
        )
        return await self.create(wish)

    async def redeem(self, secret: str) -> Token:
        """Use up a join token.

        Raises:
            JoinRefusedError: It is none, was used, was revoked, or its time is over; which of these is not said.
            AgentQuarantinedError: Its agent is kept out; the token is not used up.
        """
        known, now = self._tokens.get(digest(secret)), self._clock.now()
        if known is not None:
            self.check_ban(known.tenant_id, known.agent_id)
        token = await self._store.redeem(digest(secret), now)
        if token is None:
            _log.warning(
                "a join token was refused", extra={"token": known.id if known else "", "agent": known.agent_id if known else ""}
            )
            raise JoinRefusedError
        self._remember(replace(token, redeem_time=now))
        return token

    def person(self, secret: str) -> Token:
        """Return the token of a person or a program.

        Raises:
            UnauthenticatedError: Nobody has it, or it is not valid any more.
        """
        token = self._tokens.get(digest(secret))
        if token is None or token.purpose is not Purpose.PERSON or not token.valid(self._clock.now()):
            raise UnauthenticatedError("Nobody has this token.")
        return token

    def peer(self, tenant_id: TenantId, agent_id: AgentId, thumbprint: str, secret: str) -> None:
        """Accept a sidecar that calls over a network.

        Raises:
            UnauthenticatedError: The token is not one of this agent and this certificate, or its time is over.
            AgentQuarantinedError: The agent is kept out.
        """
        self.check_ban(tenant_id, agent_id)
        token = self._tokens.get(digest(secret))
        if token is None or token.purpose is not Purpose.AGENT or not token.valid(self._clock.now()):
            raise UnauthenticatedError("This token is not valid any more.", next_step="renew it with EnrolmentService.Renew")
        if (token.tenant_id, token.agent_id, token.thumbprint) != (tenant_id, agent_id, thumbprint):
            raise UnauthenticatedError("This token belongs to another certificate.")

    def certificate(self, tenant_id: TenantId, agent_id: AgentId, thumbprint: str) -> Token:
        """Return the newest token of a certificate that may have another one.

        Raises:
            UnauthenticatedError: The certificate was never given out here, or was revoked.
            AgentQuarantinedError: The agent is kept out.
        """
        self.check_ban(tenant_id, agent_id)
        token = self._by_certificate.get(thumbprint)
        if token is None or not token.renewable(self._clock.now()) or (token.tenant_id, token.agent_id) != (tenant_id, agent_id):
            raise UnauthenticatedError("This certificate was revoked.", next_step="`conductor join` with a new join token")
        return token

    def check_ban(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """Refuse an agent that is kept out.

        Raises:
            AgentQuarantinedError: It is.
        """
        ban = self._bans.get((tenant_id, agent_id))
        if ban is not None:
            raise AgentQuarantinedError(agent_id=agent_id, why=ban.reason)

    def seconds_until(self, moment: float) -> float:
        """Return how long it is until a moment, by the clock that tokens are dated by."""
        return moment - self._clock.now()

    def list(self, tenant_id: TenantId) -> Sequence[Token]:
        """Return the tokens of a tenant that people made, newest first."""
        made = [token for token in self._tokens.values() if token.tenant_id == tenant_id and token.purpose is not Purpose.AGENT]
        return sorted(made, key=lambda token: token.id, reverse=True)

    async def revoke(self, tenant_id: TenantId, token_id: str) -> Token:
        """Revoke a token; once more changes nothing.

        Raises:
            TokenNotFoundError: The tenant has none of this id.
        """
        found = next((token for token in self._tokens.values() if token.id == token_id and token.tenant_id == tenant_id), None)
        if found is None:
            raise TokenNotFoundError(token_id=token_id)
        await self._revoke([found])
        return self._tokens[found.sha256]

    async def quarantine(self, tenant_id: TenantId, agent_id: AgentId, reason: str) -> None:
        """Keep an agent out: what it has is revoked, and nothing new is given to it."""
        ban = Ban(tenant_id, agent_id, reason, self._clock.now())
        self._bans[tenant_id, agent_id] = ban  # before it is durable: a moment too early is right here
        self.on_banned(tenant_id, agent_id)
        await self._store.ban(ban)
        await self._revoke(
            [token for token in self._tokens.values() if (token.tenant_id, token.agent_id) == (tenant_id, agent_id)]
        )

    async def lift(self, tenant_id: TenantId, agent_id: AgentId) -> None:
        """Let an agent in again. What was revoked stays so: over a network it has to join anew."""
        await self._store.lift(tenant_id, agent_id)
        self._bans.pop((tenant_id, agent_id), None)

    async def _revoke(self, tokens: Sequence[Token]) -> None:
        now = self._clock.now()
        revoked = [replace(token, revoke_time=now) for token in tokens if not token.revoke_time]
        await self._store.revoke([token.id for token in revoked], now)
        for token in revoked:
            self._remember(token)
            self.on_revoked(token)

    def _remember(self, token: Token) -> None:
        self._tokens[token.sha256] = token
        newest = self._by_certificate.get(token.thumbprint)
        if token.thumbprint and (newest is None or newest.id <= token.id):
            self._by_certificate[token.thumbprint] = token

    async def keep(self) -> None:
        """Forget what need not be known any more, for ever: sidecars have a new token every few minutes."""
        while True:
            await asyncio.sleep(_FORGET_SECONDS)
            try:
                await self.forget()
            except StoreUnavailableError as error:
                _log.warning("ended tokens are kept for now", extra={"cause": str(error)})

    async def forget(self) -> None:
        """Forget what need not be known any more.

        Raises:
            StoreUnavailableError: The store keeps them for now.
        """
        now = self._clock.now()
        for token in [each for each in self._tokens.values() if each.kept_until < now]:
            del self._tokens[token.sha256]
            if self._by_certificate.get(token.thumbprint) is token:
                del self._by_certificate[token.thumbprint]
        await self._store.forget(now)

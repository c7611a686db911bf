"""What every IdentityStore does. A backend's test class inherits this and gives the fixture `identities`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from claude_conductor.ids import DEFAULT_TENANT, AgentId, TenantId
from controlplane.domain.identity import LISTED_SECONDS, Ban, Purpose, Role, Token
from controlplane.interfaces.identity_store import IdentityStore
from tests.contract.samples import OTHER_TENANT, START


def token(number: int, purpose: Purpose = Purpose.JOIN, tenant: TenantId = DEFAULT_TENANT) -> Token:
    end = START + 600
    return Token(
        f"token_{number}", f"{number:064x}", purpose, tenant, Role.SIDECAR, START, end, agent_id=AgentId(f"agent-{number}")
    )


FULL = replace(
    token(9, Purpose.AGENT),
    name="a name",
    role=Role.ADMIN,
    thumbprint="ab" * 32,
    certificate_end=START + 3600.5,
    level="strict",
)


class IdentityStoreContract:
    async def test_tokens_come_back_as_they_were_by_id(self, identities: IdentityStore) -> None:
        every = [token(1), token(2, tenant=OTHER_TENANT), FULL]
        await asyncio.gather(*(identities.add(each) for each in reversed(every)))
        assert list(await identities.tokens()) == every

    async def test_of_many_who_redeem_a_join_token_at_once_one_gets_it(self, identities: IdentityStore) -> None:
        await identities.add(token(1))
        got = await asyncio.gather(*(identities.redeem(token(1).sha256, START + 1) for _ in range(100)))
        assert [each for each in got if each is not None] == [token(1)]
        assert list(await identities.tokens()) == [replace(token(1), redeem_time=START + 1)]
        assert await identities.redeem(token(1).sha256, START + 2) is None

    async def test_what_is_no_valid_join_token_is_not_redeemed(self, identities: IdentityStore) -> None:
        for each in (token(1), token(2, Purpose.PERSON), token(3, Purpose.AGENT), token(4)):
            await identities.add(each)
        await identities.revoke(["token_4"], START)
        assert await identities.redeem(token(1).sha256, START + 600) is None  # its time is over
        for number in (2, 3, 4, 5):
            assert await identities.redeem(token(number).sha256, START) is None
        assert await identities.redeem(token(1).sha256, START + 599) == token(1)

    async def test_a_token_is_revoked_once(self, identities: IdentityStore) -> None:
        await identities.add(token(1))
        await identities.revoke(["token_1", "token_77"], START + 1)
        await identities.revoke(["token_1"], START + 2)
        assert list(await identities.tokens()) == [replace(token(1), revoke_time=START + 1)]

    async def test_tokens_are_forgotten_when_they_need_not_be_kept(self, identities: IdentityStore) -> None:
        for each in (token(1), FULL):
            await identities.add(each)
        await identities.forget(FULL.certificate_end)
        assert len(await identities.tokens()) == 2
        await identities.forget(FULL.certificate_end + 1)
        assert list(await identities.tokens()) == [token(1)]
        await identities.forget(START + 601 + LISTED_SECONDS)
        assert list(await identities.tokens()) == []

    async def test_bans_are_kept_until_they_are_lifted(self, identities: IdentityStore) -> None:
        first, second = Ban(DEFAULT_TENANT, AgentId("a"), "why", START), Ban(OTHER_TENANT, AgentId("a"), "", START)
        for each in (second, replace(first, reason="before"), first):
            await identities.ban(each)
        assert list(await identities.bans()) == [first, second]
        for _ in range(2):
            await identities.lift(DEFAULT_TENANT, AgentId("a"))
        assert list(await identities.bans()) == [second]

"""What can be done with tokens of people, programs and sidecars that are to join?"""

from __future__ import annotations

from google.protobuf import duration_pb2

from claude_conductor.client.call import Caller
from claude_conductor.v1 import credential_service_pb2 as pb
from claude_conductor.v1 import credential_service_pb2_grpc

_PAGE = 1000


class Tokens:
    """The tokens of the caller's tenant. Secrets are told once, when they are made."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = credential_service_pb2_grpc.CredentialServiceStub(caller.channel)

    async def create(self, role: str, *, name: str = "", tenant: str = "", seconds: float = 0.0) -> pb.CreateTokenResponse:
        """Make a token for a person or a program.

        Args:
            role: `admin`, `operator` or `viewer`.
            name: What it is for.
            tenant: Whose; empty: the caller's.
            seconds: How long it is valid; 0: 30 days.
        """
        request = pb.CreateTokenRequest(name=name, role=role, tenant_id=tenant, time_to_live=_span(seconds))
        return await self._caller.unary(self._stub.CreateToken, request)

    async def create_join(
        self, agent_id: str, *, tenant: str = "", seconds: float = 0.0, level: str = ""
    ) -> pb.CreateJoinTokenResponse:
        """Make a token with which one sidecar joins as an agent.

        Args:
            agent_id: The agent.
            tenant: Whose; empty: the caller's.
            seconds: How long it is valid; 0: ten minutes.
            level: Isolation level of its tasks; empty: strict.
        """
        request = pb.CreateJoinTokenRequest(
            agent_id=agent_id, tenant_id=tenant, time_to_live=_span(seconds), isolation_level=level
        )
        return await self._caller.unary(self._stub.CreateJoinToken, request)

    async def list(self) -> list[pb.Token]:
        """Return the tokens there are, newest first."""
        found: list[pb.Token] = []
        token = ""
        while True:
            answer = await self._caller.unary(self._stub.ListTokens, pb.ListTokensRequest(page_size=_PAGE, page_token=token))
            found += answer.tokens
            token = answer.next_page_token
            if not token:
                return found

    async def revoke(self, token_id: str) -> pb.Token:
        """Revoke a token.

        Raises:
            TokenNotFoundError: There is none of this id.
        """
        return (await self._caller.unary(self._stub.RevokeToken, pb.RevokeTokenRequest(token_id=token_id))).token


def _span(seconds: float) -> duration_pb2.Duration | None:
    if not seconds:
        return None
    span = duration_pb2.Duration()
    span.FromNanoseconds(int(seconds * 1e9))
    return span

"""How does CredentialService answer?"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
from google.protobuf import duration_pb2

from claude_conductor.errors import CertificateError, InvalidArgumentError, PermissionDeniedError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, TenantId, check_name
from claude_conductor.v1 import credential_service_pb2 as pb
from claude_conductor.v1.credential_service_pb2_grpc import CredentialServiceServicer
from controlplane.api.certificate_servicer import there
from controlplane.api.convert.values import span_of, timestamp
from controlplane.api.guard.caller import current_caller
from controlplane.api.paging import after_token_text, page_size, token_for
from controlplane.domain.identity import PEOPLE, Purpose, Role, Token
from controlplane.domain.task import IsolationLevel
from controlplane.service.identities import Identities, Wish

if TYPE_CHECKING:  # it brings OpenSSL, which is for control planes on a network
    from controlplane.service.certificates import Certificates

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_DAY: Final = 86_400.0
_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Doors:
    """Where those who get a token are to go."""

    sidecars: str = ""
    clients: str = ""


class TokenServicer(CredentialServiceServicer):
    """Serves CredentialService."""

    def __init__(self, identities: Identities, certificates: Certificates | None, doors: Doors) -> None:
        self._identities = identities
        self._certificates = certificates
        self._doors = doors

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        """Make a token for a person or a program."""
        del context
        role = next((each for each in PEOPLE if each.value == request.role), None)
        if role is None:
            known = ", ".join(sorted(each.value for each in PEOPLE))
            raise InvalidArgumentError(f"A token has one of these roles: {known}.", field="role", value=request.role)
        if len(request.name) > _NAME:
            raise InvalidArgumentError(f"A name has at most {_NAME} characters.", field="name")
        seconds = _span(request.time_to_live, 30 * _DAY, 366 * _DAY)
        wish = Wish(Purpose.PERSON, tenant_of(request.tenant_id), role, seconds, request.name)
        pin = pin_text(self._certificates) if self._certificates is not None else ""
        secret, token = await self._identities.create(wish, pin)
        return pb.CreateTokenResponse(secret=secret, token=shown(token))

    async def CreateJoinToken(self, request: pb.CreateJoinTokenRequest, context: Context) -> pb.CreateJoinTokenResponse:
        """Make a token with which one sidecar joins."""
        del context
        certificates = there(self._certificates)
        if not (self._doors.sidecars and self._doors.clients):
            raise CertificateError(
                "Nobody can join: sidecars ask at `listen.clients` and then work at `listen.sidecars`.",
                next_step="set both in the settings, and start it again",
            )
        agent_id, tenant_id = AgentId(check_name("agent", request.agent_id)), tenant_of(request.tenant_id)
        self._identities.check_ban(tenant_id, agent_id)
        level = request.isolation_level or IsolationLevel.STRICT.value
        if level not in {each.value for each in IsolationLevel}:
            raise InvalidArgumentError("There is no isolation level of this name.", field="isolation_level", value=level)
        seconds = _span(request.time_to_live, 600.0, 3600.0)
        wish = Wish(Purpose.JOIN, tenant_id, Role.SIDECAR, seconds, agent_id=agent_id, level=level)
        secret, token = await self._identities.create(wish, pin_text(certificates))
        return pb.CreateJoinTokenResponse(secret=secret, token=shown(token), address=self._doors.clients)

    async def ListTokens(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:
        """Return a page of tokens."""
        del context
        size, after = page_size(request.page_size), after_token_text(request.page_token)
        found = [each for each in self._identities.list(current_caller().tenant_id) if not after or each.id < after]
        more = token_for(found[size - 1].id.encode()) if len(found) > size else ""
        return pb.ListTokensResponse(tokens=[shown(each) for each in found[:size]], next_page_token=more)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:
        """Revoke a token."""
        del context
        return pb.RevokeTokenResponse(token=shown(await self._identities.revoke(current_caller().tenant_id, request.token_id)))


def tenant_of(asked: str) -> TenantId:
    """Return the tenant something is made for.

    Raises:
        PermissionDeniedError: It is another one than the caller's, who is not of the tenant that runs Conductor.
    """
    own = current_caller().tenant_id
    if not asked or asked == own:
        return own
    if own != DEFAULT_TENANT:
        raise PermissionDeniedError("Only an admin of the tenant `default` gives to other tenants.", tenant_id=asked)
    return TenantId(check_name("tenant", asked))


def pin_text(certificates: Certificates) -> str:
    """Return the SHA-256 of the root as it stands in tokens, 43 characters."""
    return base64.urlsafe_b64encode(certificates.pin).decode().rstrip("=")


def shown(token: Token) -> pb.Token:
    """Return what is told of a token."""
    return pb.Token(
        token_id=token.id,
        name=token.name,
        role=token.role.value,
        tenant_id=token.tenant_id,
        agent_id=token.agent_id,
        create_time=timestamp(token.create_time),
        end_time=timestamp(token.expire_time),
        revoke_time=timestamp(token.revoke_time or None),
        redeem_time=timestamp(token.redeem_time or None),
    )


def _span(asked: duration_pb2.Duration, usual: float, most: float) -> float:
    seconds = span_of(asked, "time_to_live") or usual
    if seconds > most:
        raise InvalidArgumentError(f"A token of this kind is valid for {most:.0f} seconds at most.", field="time_to_live")
    return seconds

"""Who calls over mutual TLS? Whose certificate it is, found out inside of the call: interceptors do not see certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from claude_conductor.errors import ConductorError, PermissionDeniedError, UnauthenticatedError
from claude_conductor.identity.names import parse_agent_uri
from claude_conductor.identity.prints import thumbprint
from claude_conductor.rpc import status
from controlplane.api.guard.caller import Caller, bearer_of, set_caller
from controlplane.api.guard.interceptors import Context, Handler, Next, metadata, wrapped
from controlplane.api.guard.live import LiveCalls, agent_key
from controlplane.api.guard.rights import OPEN, allowed
from controlplane.domain.identity import Role
from controlplane.service.identities import Identities

RENEW: Final = "/claude_conductor.v1.EnrolmentService/Renew"
"""Needs a certificate only: a sidecar whose token has ended gets the next one by it."""


class PeerIdentity(grpc.aio.ServerInterceptor):
    """Identity and rights of a listener whose every connection has a certificate that TLS has verified."""

    def __init__(self, identities: Identities, live: LiveCalls) -> None:
        self._identities = identities
        self._live = live

    async def intercept_service(self, continuation: Next, details: grpc.HandlerCallDetails) -> Handler | None:
        """Refuse who may not call, before the servicer sees anything."""
        set_caller(None)
        handler = await continuation(details)
        if handler is None or details.method in OPEN:
            return handler
        authorization = metadata(details, "authorization")

        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            try:
                caller = self._caller(context, details.method, authorization)
                if not allowed(details.method, caller.role):
                    raise PermissionDeniedError(method=details.method.removeprefix("/"), role=caller.role.value)
                left = self._identities.certificate(caller.tenant_id, caller.agent_id, caller.thumbprint).certificate_end
                set_caller(caller)
                async with self._live.held(agent_key(caller.tenant_id, caller.agent_id), self._identities.seconds_until(left)):
                    yield
            except ConductorError as error:
                await status.abort(context, error)

        return wrapped(handler, around)

    def _caller(self, context: Context, method: str, authorization: str) -> Caller:
        facts = context.auth_context()
        (name,) = facts.get("peer_spiffe_id") or (b"",)
        (certificate,) = facts.get("x509_pem_cert") or (b"",)
        if not name or not certificate:
            raise UnauthenticatedError("The certificate has no SPIFFE id.", next_step="`conductor join` gets one that has")
        tenant_id, agent_id = parse_agent_uri(name.decode("utf-8", "replace"))
        digest = thumbprint(certificate)
        if method != RENEW:
            self._identities.peer(tenant_id, agent_id, digest, bearer_of(authorization))
        return Caller(Role.SIDECAR, tenant_id, agent_id, thumbprint=digest)

"""How does EnrolmentService answer?"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import grpc

from claude_conductor.errors import UnauthenticatedError
from claude_conductor.identity.prints import thumbprint
from claude_conductor.ids import AgentId, TenantId
from claude_conductor.v1 import enrolment_service_pb2 as pb
from claude_conductor.v1.enrolment_service_pb2_grpc import EnrolmentServiceServicer
from controlplane.api.certificate_servicer import there
from controlplane.api.convert.values import timestamp
from controlplane.api.guard.caller import current_agent, current_caller
from controlplane.service.identities import Identities

if TYPE_CHECKING:  # it brings OpenSSL, which is for control planes on a network
    from controlplane.service.certificates import Certificates

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class JoiningServicer(EnrolmentServiceServicer):
    """Serves EnrolmentService."""

    def __init__(self, certificates: Certificates | None, identities: Identities, address: str) -> None:
        """Serve.

        Args:
            certificates: What signs; None: nothing listens on a network.
            identities: Who there is.
            address: Where sidecars connect, as EnrolResponse has it.
        """
        self._certificates = certificates
        self._identities = identities
        self._address = address

    async def Enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolResponse:
        """Make the owner of a join token an agent."""
        del context
        certificates = there(self._certificates)
        certificates.check(request.csr_pem.encode())  # before the token is used up
        joining = await self._identities.redeem(request.join_token)
        chain = certificates.sign_agent(request.csr_pem.encode(), joining.tenant_id, joining.agent_id)
        return pb.EnrolResponse(
            tenant_id=joining.tenant_id,
            agent_id=joining.agent_id,
            isolation_level=joining.level,
            credentials=await credentials(self._identities, certificates, joining.tenant_id, joining.agent_id, chain),
            address=self._address,
        )

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:
        """Give another token, and perhaps another certificate."""
        del context
        certificates = there(self._certificates)
        tenant_id, agent_id = current_agent()
        present = current_caller().thumbprint
        if not present:
            raise UnauthenticatedError("Only a caller with a certificate renews it.", next_step="call at `listen.sidecars`")
        if not request.csr_pem:
            end = self._identities.certificate(tenant_id, agent_id, present).certificate_end
            secret, token = await self._identities.issued(tenant_id, agent_id, present, end)
            told = pb.Credentials(trust_pem=certificates.trust_text, token=secret, token_end_time=timestamp(token.expire_time))
            return pb.RenewResponse(credentials=told)
        chain = certificates.sign_agent(request.csr_pem.encode(), tenant_id, agent_id)
        return pb.RenewResponse(credentials=await credentials(self._identities, certificates, tenant_id, agent_id, chain))


async def credentials(
    identities: Identities, certificates: Certificates, tenant_id: TenantId, agent_id: AgentId, chain: bytes
) -> pb.Credentials:
    """Return what proves that a sidecar is this agent's, and have it known."""
    secret, token = await identities.issued(tenant_id, agent_id, thumbprint(chain), certificates.end_of(chain))
    return pb.Credentials(
        chain_pem=chain.decode(),
        trust_pem=certificates.trust_text,
        token=secret,
        token_end_time=timestamp(token.expire_time),
    )

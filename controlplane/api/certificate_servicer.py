"""How does CertificateService answer?"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import grpc

from claude_conductor.errors import CertificateError
from claude_conductor.identity.prints import thumbprint
from claude_conductor.ids import AgentId, check_name
from claude_conductor.v1 import certificate_service_pb2 as pb
from claude_conductor.v1.certificate_service_pb2_grpc import CertificateServiceServicer
from controlplane.api.convert.values import timestamp
from controlplane.api.guard.caller import current_caller
from controlplane.service.identities import Identities

if TYPE_CHECKING:  # it brings OpenSSL, which is for control planes on a network
    from controlplane.service.certificates import Certificates

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class AuthorityServicer(CertificateServiceServicer):
    """Serves CertificateService."""

    def __init__(self, certificates: Certificates | None, identities: Identities) -> None:
        self._certificates = certificates
        self._identities = identities

    async def GetAuthority(self, request: pb.GetAuthorityRequest, context: Context) -> pb.GetAuthorityResponse:
        """Return what certificates come from."""
        del request, context
        certificates = there(self._certificates)
        return pb.GetAuthorityResponse(
            trust_pem=certificates.trust_text,
            certificates=[
                pb.Certificate(kind=kind, sha256=digest, begin_time=timestamp(time.begin), end_time=timestamp(time.end))
                for kind, digest, time in certificates.described()
            ],
        )

    async def IssueCertificate(self, request: pb.IssueCertificateRequest, context: Context) -> pb.IssueCertificateResponse:
        """Sign an agent's certificate."""
        del context
        certificates = there(self._certificates)
        tenant_id, agent_id = current_caller().tenant_id, AgentId(check_name("agent", request.agent_id))
        self._identities.check_ban(tenant_id, agent_id)
        chain = certificates.sign_agent(request.csr_pem.encode(), tenant_id, agent_id)
        await self._identities.issued(tenant_id, agent_id, thumbprint(chain), certificates.end_of(chain))
        return pb.IssueCertificateResponse(chain_pem=chain.decode(), trust_pem=certificates.trust_text)

    async def RotateAuthority(self, request: pb.RotateAuthorityRequest, context: Context) -> pb.RotateAuthorityResponse:
        """Replace the authority."""
        del request, context
        certificates = there(self._certificates)
        certificates.rotate()
        return pb.RotateAuthorityResponse(root_sha256=thumbprint(certificates.authority.root))


def there(certificates: Certificates | None) -> Certificates:
    """Return what signs.

    Raises:
        CertificateError: Nothing does, because nothing listens on a network.
    """
    if certificates is None:
        raise CertificateError(
            "This control plane listens on no network, so it has no authority.",
            next_step="set `listen.sidecars` or `listen.clients`, and start it again",
        )
    return certificates

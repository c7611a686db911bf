"""What can be asked about certificates?"""

from __future__ import annotations

from claude_conductor.client.call import Caller
from claude_conductor.v1 import certificate_service_pb2 as pb
from claude_conductor.v1 import certificate_service_pb2_grpc


class Certificates:
    """The authority of a control plane that listens on a network."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = certificate_service_pb2_grpc.CertificateServiceStub(caller.channel)

    async def authority(self) -> pb.GetAuthorityResponse:
        """Return what certificates come from.

        Raises:
            CertificateError: Nothing listens on a network, so there is none.
        """
        return await self._caller.unary(self._stub.GetAuthority, pb.GetAuthorityRequest())

    async def issue(self, csr: bytes, agent_id: str) -> pb.IssueCertificateResponse:
        """Return a new certificate for an agent.

        Args:
            csr: Proof of the key (`claude_conductor.identity.keys.request`).
            agent_id: Whose it is.
        """
        request = pb.IssueCertificateRequest(csr_pem=csr.decode(), agent_id=agent_id)
        return await self._caller.unary(self._stub.IssueCertificate, request)

    async def rotate(self) -> str:
        """Replace the authority; return the SHA-256 of the new root in hexadecimal."""
        return (await self._caller.unary(self._stub.RotateAuthority, pb.RotateAuthorityRequest())).root_sha256

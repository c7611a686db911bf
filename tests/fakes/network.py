"""A control plane that listens on a network, and what it takes to get in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_conductor.identity import keys
from claude_conductor.rpc.channel import Tls, open_channel
from claude_conductor.v1 import certificate_service_pb2 as pb
from claude_conductor.v1 import enrolment_service_pb2, enrolment_service_pb2_grpc
from tests.fakes.control_plane import ControlPlane, free_port
from tests.fakes.sidecar import Sidecar


@dataclass(frozen=True)
class Network:
    plane: ControlPlane
    sidecars: str
    clients: str
    probe: str

    @classmethod
    def at(cls, home: Path, **listen: Any) -> Network:
        sidecars, clients, probe = (f"127.0.0.1:{free_port()}" for _ in range(3))
        doors = {"sidecars": sidecars, "clients": clients, "probe": probe}
        return cls(ControlPlane(home, listen={**doors, **listen}), **doors)

    async def trust(self) -> bytes:
        certificates = self.plane.operator().certificates
        return (await certificates.GetAuthority(pb.GetAuthorityRequest(), timeout=10)).trust_pem.encode()

    async def identity(self, agent_id: str) -> Tls:
        key, operator = keys.new_key(), self.plane.operator()
        request = pb.IssueCertificateRequest(csr_pem=keys.request(key).decode(), agent_id=agent_id)
        answer = await operator.certificates.IssueCertificate(request, **operator.call)
        return Tls(answer.trust_pem.encode(), answer.chain_pem.encode(), key)

    async def token(self, own: Tls) -> str:
        async with open_channel(self.sidecars, tls=own) as channel:
            enrolment = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
            answer = await enrolment.Renew(enrolment_service_pb2.RenewRequest(), timeout=10)
        return str(answer.credentials.token)

    async def sidecar(self, agent_id: str, own: Tls | None = None) -> Sidecar:
        own = own or await self.identity(agent_id)
        return await Sidecar(self.sidecars, agent_id, await self.token(own), tls=own).connect()

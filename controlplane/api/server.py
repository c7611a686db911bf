"""What is served on a listener?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from claude_conductor.rpc import server as rpc_server
from claude_conductor.v1 import (
    admin_service_pb2_grpc,
    agent_service_pb2_grpc,
    artefact_service_pb2_grpc,
    audit_service_pb2_grpc,
    certificate_service_pb2_grpc,
    credential_service_pb2_grpc,
    enrolment_service_pb2_grpc,
    event_service_pb2_grpc,
    message_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_service_pb2_grpc,
)
from controlplane.api.admin_servicer import StatusServicer
from controlplane.api.agent_servicer import FleetServicer
from controlplane.api.artefact_servicer import FileServicer
from controlplane.api.audit_servicer import ChainServicer
from controlplane.api.certificate_servicer import AuthorityServicer
from controlplane.api.credential_servicer import TokenServicer
from controlplane.api.enrolment_servicer import JoiningServicer
from controlplane.api.event_servicer import WatchServicer
from controlplane.api.message_servicer import MailServicer
from controlplane.api.schedule_servicer import PlanServicer
from controlplane.api.session.servicer import SessionServicer
from controlplane.api.task_servicer import TaskQueueServicer

_NAMES = (
    *("Session", "Task", "Agent", "Message", "Event", "Artefact", "Admin", "Schedule"),
    *("Certificate", "Credential", "Enrolment", "Audit"),
)
SERVICES = tuple(f"claude_conductor.v1.{name}Service" for name in _NAMES)
_FRAME_OVERHEAD = 3 << 20


@dataclass(frozen=True, slots=True)
class Servicers:
    """Everything that is served."""

    session: SessionServicer
    task: TaskQueueServicer
    agent: FleetServicer
    message: MailServicer
    event: WatchServicer
    artefact: FileServicer
    admin: StatusServicer
    certificate: AuthorityServicer
    credential: TokenServicer
    enrolment: JoiningServicer
    audit: ChainServicer
    schedule: PlanServicer


class Listener:
    """A gRPC server with its health."""

    def __init__(
        self,
        servicers: Servicers | None,
        guard: Sequence[grpc.aio.ServerInterceptor],
        payload_bytes: int = 0,
        *,
        reflection: bool = False,
        credentials: grpc.ServerCredentials | None = None,
        lasting: float = 0.0,
        native: bool = False,
    ) -> None:
        """Put everything together; nothing is listened to yet.

        Args:
            servicers: What is served; None: health only, for probes.
            guard: What every call passes first.
            payload_bytes: The largest payload; frames may be somewhat larger.
            reflection: Whether to tell what is served.
            credentials: TLS; None: in the clear.
            lasting: Seconds a connection over a network lasts at most; 0: it is no network.
            native: Whether by our own server instead of grpcio's; in the clear only.
        """
        self._credentials = credentials
        options = rpc_server.options(max_message_bytes=payload_bytes + _FRAME_OVERHEAD, network=lasting)
        self._server = _open(guard, options, native=native)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if servicers is not None:
            self._serve(servicers, reflection=reflection)

    def _serve(self, servicers: Servicers, *, reflection: bool) -> None:
        self._server.add_generic_rpc_handlers((servicers.session.handler(),))
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(servicers.task, self._server)
        agent_service_pb2_grpc.add_AgentServiceServicer_to_server(servicers.agent, self._server)
        message_service_pb2_grpc.add_MessageServiceServicer_to_server(servicers.message, self._server)
        event_service_pb2_grpc.add_EventServiceServicer_to_server(servicers.event, self._server)
        artefact_service_pb2_grpc.add_ArtefactServiceServicer_to_server(servicers.artefact, self._server)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(servicers.admin, self._server)
        certificate_service_pb2_grpc.add_CertificateServiceServicer_to_server(servicers.certificate, self._server)
        credential_service_pb2_grpc.add_CredentialServiceServicer_to_server(servicers.credential, self._server)
        enrolment_service_pb2_grpc.add_EnrolmentServiceServicer_to_server(servicers.enrolment, self._server)
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(servicers.audit, self._server)
        schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server(servicers.schedule, self._server)
        if reflection:
            from grpc_reflection.v1alpha import reflection as served  # noqa: PLC0415 - only where it is asked for

            names = (*SERVICES, health.SERVICE_NAME, served.SERVICE_NAME)
            served.enable_server_reflection(names, self._server)

    async def start(self, address: str) -> None:
        """Listen, and only then be healthy.

        Raises:
            RuntimeError: The address cannot be listened to.
        """
        await self._set_health(serving=False)
        if self._credentials is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, self._credentials)
        await self._server.start()

    async def serving(self) -> None:
        """Say that everything is ready."""
        await self._set_health(serving=True)

    async def not_serving(self) -> None:
        """Say, from now on, that no new work is wanted."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Take no new calls, and end those that still go on after `grace` seconds."""
        await self._server.stop(grace)

    async def _set_health(self, *, serving: bool) -> None:
        known = health_pb2.HealthCheckResponse
        for name in ("", *SERVICES):
            await self._health.set(name, known.SERVING if serving else known.NOT_SERVING)


def _open(guard: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]], *, native: bool) -> grpc.aio.Server:
    if not native:
        return grpc.aio.server(interceptors=guard, options=options)
    from controlplane.transport.server import Server  # noqa: PLC0415 - only where it is asked for

    return Server(guard, options)

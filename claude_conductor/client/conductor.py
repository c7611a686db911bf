"""The client for people and programs outside of a sandbox: one connection, its methods grouped by what they are about."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from grpc_health.v1 import health_pb2, health_pb2_grpc

from claude_conductor.client.agents import Agents
from claude_conductor.client.artefacts import Artefacts
from claude_conductor.client.audit import Audit
from claude_conductor.client.call import Caller
from claude_conductor.client.certificates import Certificates
from claude_conductor.client.events import Events
from claude_conductor.client.messages import Messages
from claude_conductor.client.schedules import Schedules
from claude_conductor.client.tasks import Tasks
from claude_conductor.client.tokens import Tokens
from claude_conductor.rpc.channel import Tls
from claude_conductor.settings import place
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import admin_service_pb2, admin_service_pb2_grpc


class Admin:
    """The control plane itself."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = admin_service_pb2_grpc.AdminServiceStub(caller.channel)
        self._check: Callable[..., Awaitable[health_pb2.HealthCheckResponse]] = health_pb2_grpc.HealthStub(caller.channel).Check  # type: ignore[attr-defined]  # set in its constructor

    async def status(self, *, timeout: float = 5.0) -> admin_service_pb2.GetStatusResponse:
        """Return what runs and how it is doing; `timeout` in seconds."""
        return await self._caller.unary(self._stub.GetStatus, admin_service_pb2.GetStatusRequest(), timeout=timeout)

    async def serving(self, *, timeout: float = 1.0) -> bool:
        """Tell whether the control plane says it is ready (gRPC health protocol).

        Raises:
            ControlPlaneUnavailableError: It does not answer within `timeout` seconds.
        """
        answer = await self._caller.unary(self._check, health_pb2.HealthCheckRequest(), timeout=timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Conductor:
    """A connection to one control plane. Its methods take and return the messages of `claude_conductor.v1`.

        async with Conductor.connect() as conductor:
            task = await conductor.tasks.submit(TaskSpec(prompt="...", driver="command", command=["make", "check"]))
            done = await conductor.tasks.wait(task.task_id)

    Every call has a deadline, and every failure is a class of `claude_conductor.errors`. Streams go on over a restart of the
    control plane without losing or repeating anything. It belongs to the event loop it was made in.
    """

    def __init__(self, address: str, token: Secret, tls: Tls | None = None) -> None:
        """Open a channel; connecting happens with the first call."""
        self._caller = Caller(address, token, tls=tls)
        self.tasks = Tasks(self._caller)
        self.agents = Agents(self._caller)
        self.messages = Messages(self._caller)
        self.events = Events(self._caller)
        self.artefacts = Artefacts(self._caller, token)
        self.schedules = Schedules(self._caller)
        self.admin = Admin(self._caller)
        self.certificates = Certificates(self._caller)
        self.tokens = Tokens(self._caller)
        self.audit = Audit(self._caller)

    @classmethod
    def connect(
        cls, address: str | None = None, token: str | None = None, *, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Return a connection to the control plane that address, environment, context or home name, in this order.

        Args:
            address: `unix:/path` or `HOST:PORT`; None: CONDUCTOR_ADDRESS, else the context's, else the home's socket.
            token: Who calls; None: CONDUCTOR_TOKEN, else the context's, else what is in the home's operator.token.
            environment: Instead of the process's.

        Raises:
            SettingsError: The context in use is unknown or its token unreadable.
        """
        where = place.resolve(os.environ if environment is None else environment, address=address or "", token=token or "")
        return cls(where.address, where.token, Tls(where.trust))

    @property
    def address(self) -> str:
        """The gRPC address this talks to."""
        return self._caller.address

    async def close(self) -> None:
        """Close the connection; running calls are cancelled. Idempotent."""
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

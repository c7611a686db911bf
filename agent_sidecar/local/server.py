"""The agent's socket: one gRPC server that only this agent can reach, in a folder it cannot change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from agent_sidecar.local.local_servicer import LocalServicer
from claude_conductor.errors import AddressInUseError
from claude_conductor.rpc import server as rpc_server
from claude_conductor.rpc.readable import Readable
from claude_conductor.v1 import local_service_pb2_grpc

SOCKET_NAME: Final = "agent.sock"
_CALLS_AT_ONCE: Final = 64
_FRAME_BYTES: Final = 256 << 10
"""What a message may be larger than its payload."""


class LocalServer:
    """Serves one agent.

    Args:
        folder: Of the agent's sockets; made, ours, passable for the agent.
        servicer: Built for this agent.
        agent_uid: Who gets the socket.
        payload_bytes: Largest payload of a message.
    """

    def __init__(self, folder: Path, servicer: LocalServicer, agent_uid: int, payload_bytes: int = 1 << 20) -> None:
        self._folder = folder
        self._servicer = servicer
        self._agent_uid = agent_uid
        self._payload_bytes = payload_bytes
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. The folder is closed to everybody until the socket has its owner and mode.

        Raises:
            SocketPathTooLongError: The kernel takes 107 bytes at most.
            AddressInUseError: Somebody else listens there.
            HomeUnusableError: The folder cannot be made.
        """
        path = self._folder / SOCKET_NAME
        address = rpc_server.claim_socket(path)
        self._folder.chmod(0o700)
        server = grpc.aio.server(
            interceptors=(Readable(),),
            options=rpc_server.options(4 * self._payload_bytes + _FRAME_BYTES, pings=False),
            maximum_concurrent_rpcs=_CALLS_AT_ONCE,
        )
        local_service_pb2_grpc.add_LocalServiceServicer_to_server(self._servicer, server)
        healthy = health.aio.HealthServicer()
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        try:
            server.add_insecure_port(address)
        except RuntimeError as cause:
            raise AddressInUseError(address=address) from cause
        if self._agent_uid != os.geteuid():
            os.chown(path, self._agent_uid, self._agent_uid, follow_symlinks=False)
        path.chmod(0o600)
        await server.start()
        self._folder.chmod(0o711)
        self._server = server

    async def stop(self, grace: float = 0.2) -> None:
        """Stop listening. Idempotent."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace)
            (self._folder / SOCKET_NAME).unlink(missing_ok=True)

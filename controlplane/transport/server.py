"""How does the server listen, and how does it stop? The interface of grpc.aio.Server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from controlplane.transport import identity
from controlplane.transport.call import Call
from controlplane.transport.limits import Limits
from controlplane.transport.link import Link
from controlplane.transport.serving import Services

_log = logging.getLogger(__name__)
_UNIX: Final = "unix:"
LOOK_SECONDS: Final = 0.25
"""Between two looks at all connections: who is silent, who never said what it speaks."""
_CANCEL_SECONDS: Final = 2.0
"""How long handlers have to end once they were cancelled."""
_CLOSE_SECONDS: Final = 1.0
"""How long peers have, when everything else has ended, to read what is on its way."""
_BACKLOG: Final = 1024
"""Connections that wait to be accepted: every sidecar comes back at once when the control plane was away."""


class Server(grpc.aio.Server):
    """Serves what `grpc.aio.server` does, to any gRPC client, without grpcio's own transport."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor] = (), options: Sequence[tuple[str, int]] = ()) -> None:
        """Take the arguments of `grpc.aio.server`; nothing is listened to yet.

        Args:
            interceptors: What every call passes, outermost first.
            options: Channel arguments; `Limits.of` says which are understood.
        """
        self._services = Services(interceptors)
        self._limits = Limits.of(options)
        self._sockets: list[socket.socket] = []
        self._contexts: dict[socket.socket, ssl.SSLContext] = {}
        self._paths: list[tuple[Path, int]] = []
        """Of the sockets that are files, with their inodes."""
        self._listeners: list[asyncio.Server] = []
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        """A call or a connection has ended."""
        self._stopping = False
        self._stopped = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Serve this too."""
        self._services.add(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:  # noqa: ANN401 - as there
        """Do nothing: generated code adds the same handlers as generic ones before."""

    def add_insecure_port(self, address: str) -> int:
        """Listen on `unix:PATH` or `HOST:PORT`, and return the port; 1 for a path. Nobody is answered before `start`.

        Raises:
            RuntimeError: It cannot be listened to.
        """
        try:
            listening = _listening(address)
        except OSError as cause:
            raise RuntimeError(f"Failed to bind to address {address}: {cause.strerror}") from cause
        self._sockets.append(listening)
        if listening.family != socket.AF_UNIX:
            return int(listening.getsockname()[1])
        path = Path(address.removeprefix(_UNIX))
        self._paths.append((path, path.stat().st_ino))
        return 1

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """Refuse: what grpcio's credentials hold cannot be read.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("Credentials of grpcio cannot be read; use add_tls_port with a context of ssl.")

    def add_tls_port(self, address: str, context: ssl.SSLContext) -> int:
        """Listen as `add_insecure_port` does, with TLS.

        A certificate that is loaded into the context later holds for connections from then on. Servicers see the peer's
        certificate as `auth_context()` and `peer_identities()` if the context asks for one and verifies it.

        Args:
            address: Where.
            context: Of a server; HTTP/2 is put into it.

        Raises:
            RuntimeError: It cannot be listened to.
            ValueError: The context takes less than TLS 1.2.
        """
        identity.check(context)
        port = self.add_insecure_port(address)
        self._contexts[self._sockets[-1]] = context
        return port

    async def start(self) -> None:
        """Answer who connects."""
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            context = self._contexts.get(listening)
            more: dict[str, Any] = {"backlog": _BACKLOG, "ssl": context}
            if context is not None:
                more["ssl_handshake_timeout"] = self._limits.handshake
            create = loop.create_unix_server if listening.family == socket.AF_UNIX else loop.create_server
            self._listeners.append(await create(self._connected, sock=listening, **more))
        self._look()

    async def stop(self, grace: float | None) -> None:
        """Take no new calls; end those that go on after `grace` seconds, at once if None, and return when all have ended.

        A handler that goes on although it was cancelled is left to the event loop, and named in the log. Calling it again while
        it waits may shorten the time, never lengthen it.
        """
        now = asyncio.get_running_loop().time()
        self._stop_listening()
        await self._until(lambda: not self._tasks, now + (grace or 0.0))
        for link in list(self._links):
            link.stop_calls()
        loop = asyncio.get_running_loop()
        await self._until(lambda: not self._tasks, loop.time() + _CANCEL_SECONDS)
        if self._tasks:
            _log.warning("calls do not end", extra={"calls": sorted({task.get_name() for task in self._tasks})})
        await self._until(lambda: not self._links, loop.time() + _CLOSE_SECONDS)
        for link in list(self._links):
            link.abort()
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped; True if that took longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            return True
        return False

    def _stop_listening(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        for listener in self._listeners:
            listener.close()
        for path, inode in self._paths:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:  # otherwise somebody else listens there by now
                    path.unlink()
        for link in list(self._links):
            link.leave()

    async def _until(self, reached: Callable[[], bool], deadline: float) -> None:
        """Wait for something that calls and connections bring about by ending, but not for ever."""
        try:
            async with asyncio.timeout_at(deadline):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _connected(self) -> Link:
        link = Link(self._limits, self._serve, self._over)
        self._links.add(link)
        if self._stopping:  # it was accepted while the listener closed
            asyncio.get_running_loop().call_soon(link.leave)
        return link

    def _serve(self, call: Call) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._services.serve(call), name=f"call {call.invocation.method}")
        self._tasks.add(task)
        task.add_done_callback(self._served)
        return task

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()

    def _over(self, link: Link) -> None:
        self._links.discard(link)
        self._changed.set()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for link in list(self._links):
            link.look(now)
        self._timer = loop.call_later(LOOK_SECONDS, self._look)


def _listening(address: str) -> socket.socket:
    if address.startswith(_UNIX):
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(address.removeprefix(_UNIX))
        except OSError:
            listening.close()
            raise
        return listening
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG)

"""The gateway's door: a Unix socket for one agent, the connections through it, and their end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

import h11

from agent_sidecar.gateway.dialer import Dialer
from agent_sidecar.gateway.door import Owner
from agent_sidecar.gateway.exchange import Conversation, Observers, Traffic
from agent_sidecar.gateway.hold import Hold
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import Provider
from agent_sidecar.gateway.wire import Wire
from claude_conductor.clock import Clock
from claude_conductor.errors import AddressInUseError, AgentHungUpError, InvalidArgumentError, SocketPathTooLongError

_log = logging.getLogger(__name__)

LONGEST_PATH = 107
"""Bytes (unix(7))."""


class Gateway:
    """Serves one agent. The socket is its identity: who can open it is that agent.

    Args:
        provider: Where requests go.
        observers: Told of usage and rate limits.
        limits: Bounds.
        clock: Tells the time for reset dates.
        hold: What is known of the provider's rate limit.
    """

    def __init__(self, provider: Provider, observers: Observers, limits: GatewayLimits, clock: Clock, hold: Hold) -> None:
        dialer = Dialer(provider, limits.connect_seconds)
        self._traffic = Traffic(provider, limits, dialer, observers, clock, hold)
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self._opened = 0

    async def open(self, path: Path, owner: Owner | None = None) -> None:
        """Listen on a socket with mode 0600. Does not return before it can be connected to.

        Args:
            path: In a folder that only the sidecar can write; a socket left there by an earlier life is replaced.
            owner: Gets the socket; None leaves it with this process's user.

        Raises:
            SocketPathTooLongError: The path does not fit the kernel's address.
            AddressInUseError: Something that is no socket lies there.
        """
        listener = listen(path, owner)
        self._path = path
        self._server = await asyncio.start_unix_server(self._connected, sock=listener)

    async def close(self, grace: float = 2.0) -> None:
        """Take no more connections, end those there are, remove the socket. Idempotent.

        Args:
            grace: Seconds for the connections to end after they were cancelled.
        """
        if self._server is None or self._path is None:
            return
        server, self._server = self._server, None
        server.close()
        self._path.unlink(missing_ok=True)
        for task in self._conversations:
            task.cancel()
        if self._conversations:
            await asyncio.wait(self._conversations, timeout=grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin a conversation. The server calls this, so no TaskGroup can hold the task; the set does."""
        if self._server is None or len(self._conversations) >= self._traffic.limits.connections:
            writer.transport.abort()
            return
        self._opened += 1
        wire = Wire(h11.SERVER, reader, writer, lost=AgentHungUpError, malformed=InvalidArgumentError)
        conversation = Conversation(wire, self._traffic).run()
        task = asyncio.create_task(conversation, name=f"model connection {self._opened}")
        self._conversations.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Forget a conversation; one that ended by a mistake of ours is logged, the others go on."""
        self._conversations.discard(task)
        if not task.cancelled() and (mistake := task.exception()) is not None:
            _log.error("model connection failed", exc_info=mistake, extra={"connection": task.get_name()})


def listen(path: Path, owner: Owner | None) -> socket.socket:
    """Return a listening Unix socket that has its mode and owner before anyone can connect.

    Raises:
        SocketPathTooLongError: The path does not fit the kernel's address.
        AddressInUseError: Something that is no socket lies there.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise SocketPathTooLongError(path=path)
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # on an unbound socket it becomes the mode of the file that bind makes
        listener.bind(str(path))
        if owner is not None:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        listener.listen(16)
    except OSError as cause:
        listener.close()
        raise AddressInUseError("The model gateway's socket cannot be made.", path=path, cause=cause.strerror) from cause
    return listener

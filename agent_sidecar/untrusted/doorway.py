"""A Unix socket for one agent, the connections through it, and their end. The socket is the agent's identity."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.errors import AddressInUseError, SocketPathTooLongError

_log = logging.getLogger(__name__)

LONGEST_PATH: Final = 107
"""Bytes (unix(7))."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may connect to the socket besides root."""

    uid: int
    gid: int


class Doorway:
    """Serves whoever can open the socket.

    Args:
        serve: Serves one connection, and closes it.
        connections: How many at a time; further ones are cut off.
        name: What they are for, in logs.
    """

    def __init__(self, serve: Serve, connections: int, name: str) -> None:
        self._serve = serve
        self._most = connections
        self._name = name
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._present: set[asyncio.Task[None]] = set()
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
        for task in self._present:
            task.cancel()
        if self._present:
            await asyncio.wait(self._present, timeout=grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin to serve. The server calls this, so no TaskGroup can hold the task; the set does."""
        if self._server is None or len(self._present) >= self._most:
            writer.transport.abort()
            return
        self._opened += 1
        task = asyncio.create_task(self._serve(reader, writer), name=f"{self._name} connection {self._opened}")
        self._present.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Forget a connection; one that ended by a mistake of ours is logged, the others go on."""
        self._present.discard(task)
        if not task.cancelled() and (mistake := task.exception()) is not None:
            _log.error("an agent's connection failed", exc_info=mistake, extra={"connection": task.get_name()})


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
        raise AddressInUseError("This agent's socket cannot be made.", path=path, cause=cause.strerror) from cause
    return listener

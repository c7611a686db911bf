"""How is the web part served? uvicorn on one address, until cancelled or told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import uvicorn

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.rpc.channel import Tls
from claude_conductor.web.app import build
from claude_conductor.web.logins import Logins

HOST: Final = "127.0.0.1"
_CONNECTIONS: Final = 512
_GRACE: Final = 2
"""Seconds that streams get to end by themselves."""


def listen(port: int) -> socket.socket:
    """Return a listening socket on loopback; port 0 takes a free one.

    Raises:
        InvalidArgumentError: The port cannot be listened to.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as cause:
        listener.close()
        raise InvalidArgumentError(
            "This port cannot be listened to.", next_step="choose another with --port", port=port, cause=cause.strerror
        ) from cause
    return listener


class Server(uvicorn.Server):
    """uvicorn, that says when it serves, and ends the streams of open pages before it waits for them."""

    def __init__(self, address: str, logins: Logins, ready: Callable[[], None], tls: Tls | None = None) -> None:
        """Nothing is served yet.

        Args:
            address: gRPC address of the control plane.
            logins: Of browsers.
            ready: Called once everything is served.
            tls: Whom to trust where the address is on a network.
        """
        self._app = build(address, logins, tls)
        self._ready = ready
        config = uvicorn.Config(
            self._app,
            access_log=False,
            server_header=False,
            log_config=None,
            lifespan="on",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE,
            h11_max_incomplete_event_size=64 << 10,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await self._app.state.forwarding.close()
        await super().shutdown(sockets)

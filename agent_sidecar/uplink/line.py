"""Which channel leads to the control plane now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import grpc

from claude_conductor.errors import ControlPlaneUnavailableError
from claude_conductor.rpc.channel import Tls, open_channel

_LARGEST_FRAME: Final = 8 << 20
"""A delivery of one message of the largest payload an operator may allow, with room to spare."""
_READY_SECONDS: Final = 10.0
_DRAIN_SECONDS: Final = 30.0


class Line:
    """The channel to the control plane; another address, or another certificate, replaces it.

    Args:
        address: The configured one.
        tls: How connections over a network are made.
    """

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        self._configured = address
        self._address = ""
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def channel(self) -> grpc.aio.Channel:
        """Return the channel in use."""
        if self._channel is None:
            self._address = self._address or self._configured
            self._channel = self._opened(self._tls)
        return self._channel

    async def go_to(self, address: str) -> grpc.aio.Channel:
        """Return a channel to this address; empty means the configured one."""
        wanted = address or self._configured
        if self._channel is not None and wanted != self._address:
            channel, self._channel = self._channel, None
            await channel.close()
        self._address = wanted
        return self.channel()

    async def hand_over(self, tls: Tls, begun: Callable[[], None]) -> None:
        """Open a second channel to the same address, and use it once it stands. Calls that go on end on the first one.

        Args:
            tls: Of the second channel.
            begun: Called in the moment of the change.

        Raises:
            ControlPlaneUnavailableError: The second channel could not be made; the first one stays in use.
        """
        self.channel()
        second = self._opened(tls)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await second.channel_ready()
        except TimeoutError as cause:
            await second.close()
            raise ControlPlaneUnavailableError("A connection with the new certificate could not be made.") from cause
        except BaseException:
            await second.close()
            raise
        first, self._channel, self._tls = self._channel, second, tls
        begun()
        if first is not None:
            draining = asyncio.create_task(first.close(_DRAIN_SECONDS), name="drain a channel")
            self._leaving.add(draining)
            draining.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Close everything. Idempotent."""
        for draining in self._leaving:
            draining.cancel()
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    def _opened(self, tls: Tls | None) -> grpc.aio.Channel:
        limits = [("grpc.max_receive_message_length", _LARGEST_FRAME), ("grpc.max_send_message_length", _LARGEST_FRAME)]
        return open_channel(self._address, limits, tls)

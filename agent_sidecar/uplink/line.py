"""Which channel leads to the control plane now."""

from __future__ import annotations

from typing import Final

import grpc

from claude_conductor.rpc.channel import open_channel

_LARGEST_FRAME: Final = 8 << 20
"""A delivery of one message of the largest payload an operator may allow, with room to spare."""


class Line:
    """The channel to the control plane; another address replaces it.

    Args:
        address: The configured one.
    """

    def __init__(self, address: str) -> None:
        self._configured = address
        self._address = ""
        self._channel: grpc.aio.Channel | None = None

    def channel(self) -> grpc.aio.Channel:
        """Return the channel in use."""
        if self._channel is None:
            self._address = self._address or self._configured
            limits = [("grpc.max_receive_message_length", _LARGEST_FRAME), ("grpc.max_send_message_length", _LARGEST_FRAME)]
            self._channel = open_channel(self._address, limits)
        return self._channel

    async def go_to(self, address: str) -> grpc.aio.Channel:
        """Return a channel to this address; empty means the configured one."""
        wanted = address or self._configured
        if self._channel is not None and wanted != self._address:
            await self.close()
        self._address = wanted
        return self.channel()

    async def close(self) -> None:
        """Close it. Idempotent."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

"""How the provider is reached: a new connection for each request, TLS verified."""

from __future__ import annotations

import asyncio
import ssl

import h11

from agent_sidecar.gateway.provider import Provider
from agent_sidecar.untrusted.wire import Wire
from claude_conductor.errors import ProviderUnavailableError


class Dialer:
    """Opens connections to one provider and to nothing else.

    Args:
        provider: Its address.
        connect_seconds: For name, TCP and TLS together.
    """

    def __init__(self, provider: Provider, connect_seconds: float) -> None:
        self._provider = provider
        self._connect_seconds = connect_seconds
        self._tls: ssl.SSLContext | None = None

    async def connect(self) -> Wire:
        """Return a new connection.

        Raises:
            ProviderUnavailableError: No connection in time, or its certificate is not trusted.
        """
        try:
            async with asyncio.timeout(self._connect_seconds):
                reader, writer = await asyncio.open_connection(self._provider.host, self._provider.port, ssl=self._trust())
        except (OSError, TimeoutError) as cause:
            raise ProviderUnavailableError(
                f"The model provider could not be reached ({cause or 'timed out'}).",
                host=self._provider.host,
                port=self._provider.port,
            ) from cause
        return Wire(h11.CLIENT, reader, writer, lost=ProviderUnavailableError, malformed=ProviderUnavailableError)

    def _trust(self) -> ssl.SSLContext | None:
        """Return the TLS settings, read once: loading the authorities takes 20 ms."""
        if self._provider.secure and self._tls is None:
            ca_file = self._provider.ca_file
            self._tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        return self._tls

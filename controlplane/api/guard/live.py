"""Which calls are open in whose name, so that they end when that name is revoked or ends?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from claude_conductor.errors import UnauthenticatedError
from claude_conductor.ids import AgentId, TenantId


def agent_key(tenant_id: TenantId, agent_id: AgentId) -> str:
    """Return under which name the calls of an agent's sidecar are noted."""
    return f"agent {tenant_id}/{agent_id}"


class LiveCalls:
    """The calls that go on. TLS does not end a stream whose certificate ended, and a token is looked at when a call begins."""

    def __init__(self) -> None:
        self._calls: dict[str, set[asyncio.Timeout]] = {}

    @asynccontextmanager
    async def held(self, key: str, seconds: float | None) -> AsyncIterator[None]:
        """Note a call for as long as it goes on.

        Args:
            key: In whose name.
            seconds: After these its identity has ended, and the call ends with it; None: never.

        Raises:
            UnauthenticatedError: The identity was revoked or ended meanwhile. What the call was doing was cancelled.
        """
        try:
            async with asyncio.timeout(seconds) as until:
                self._calls.setdefault(key, set()).add(until)
                try:
                    yield
                finally:
                    calls = self._calls[key]
                    calls.discard(until)
                    if not calls:
                        del self._calls[key]
        except TimeoutError as cause:
            if until.expired():
                raise UnauthenticatedError("The identity of this call was revoked, or has ended.") from cause
            raise

    def end(self, key: str) -> None:
        """End every call in this name, now."""
        for until in self._calls.get(key, ()):
            until.reschedule(asyncio.get_running_loop().time())

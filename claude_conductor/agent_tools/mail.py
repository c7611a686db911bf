"""Which messages were fetched and shown to nobody yet? None is lost when a reader goes away, and none overtakes another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

from claude_conductor.client.agent import AgentClient
from claude_conductor.clock import Clock
from claude_conductor.v1.message_service_pb2 import ReceivedMessage

Heard: TypeAlias = Callable[[float, float, str], Awaitable[None]]
"""Told during a long wait: seconds waited, seconds at most, and what for."""

SLICE: Final = 10.0
"""Seconds of one call to the sidecar."""


async def nobody_listens(waited: float, longest: float, what: str) -> None:
    """Take no notice."""


class Mail:
    """The agent's mailbox as one process reads it. All methods belong to one event loop.

    The sidecar hands a message to an agent once. So a fetch that was begun is never cancelled: what it brings is held for the
    next reader.

    Args:
        agent: The connection.
        clock: Tells the time.
        slice_seconds: Of one call; longer waits are made of several, and tell of themselves in between.
    """

    def __init__(self, agent: AgentClient, clock: Clock, slice_seconds: float = SLICE) -> None:
        self._agent = agent
        self._clock = clock
        self._slice = slice_seconds
        self._held: deque[ReceivedMessage] = deque()
        self._fetching: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """Messages that were fetched and wait here."""
        return len(self._held)

    async def take(
        self,
        most: int,
        wait: float,
        fits: Callable[[ReceivedMessage], bool],
        heard: Heard = nobody_listens,
        request_id: str = "",
    ) -> list[ReceivedMessage]:
        """Return messages in order; empty after `wait` seconds without any.

        Args:
            most: At most this many, up to 1000. No more are fetched, so that none is left here when the process ends.
            wait: Seconds to wait for the first; 0: not at all.
            fits: Asked for each further message; the first that does not fit and all behind it stay here.
            heard: Told how long it has waited.
            request_id: Names the fetch, as `AgentClient.fetch` says; what comes again may be more than `most`, and stays here.

        Raises:
            ConductorError: The sidecar cannot be asked.
        """
        began = self._clock.monotonic()
        while not self._held:
            waited = self._clock.monotonic() - began
            await self._fetch(most, max(0.0, min(self._slice, wait - waited)), request_id)
            waited = self._clock.monotonic() - began
            if not self._held:
                if waited >= wait:
                    return []
                await heard(waited, wait, "waiting for a message")
        taken = [self._held.popleft()]
        while self._held and len(taken) < most and fits(self._held[0]):
            taken.append(self._held.popleft())
        return taken

    def put_back(self, messages: Iterable[ReceivedMessage]) -> None:
        """Hold messages again, before all others: their reader went away without having seen them."""
        self._held.extendleft(reversed(list(messages)))

    async def _fetch(self, most: int, wait: float, request_id: str) -> None:
        """Have one fetch under way and wait for it; the others wait for the same one."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch_once(most, wait, request_id), name="fetch messages")
            self._fetching.add_done_callback(_looked_at)
        await asyncio.shield(self._fetching)

    async def _fetch_once(self, most: int, wait: float, request_id: str) -> None:
        self._held.extend(await self._agent.fetch(limit=most, wait=wait, request_id=request_id))


def _looked_at(done: asyncio.Task[None]) -> None:
    """Look at a failure also where everybody who waited for it has gone."""
    if not done.cancelled():
        done.exception()

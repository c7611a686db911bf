"""How does somebody who waits for news about one thing learn that there is some?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """Wakes those who listen to a key. It carries no values: who wakes up reads what is true now, so nothing piles up."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def listen(self, key: str) -> Iterator[asyncio.Event]:
        """Return an event that is set at every beat from now on; the listener clears it before it reads."""
        event = asyncio.Event()
        listeners = self._listeners.setdefault(key, set())
        listeners.add(event)
        try:
            yield event
        finally:
            listeners.discard(event)
            if not listeners and self._listeners.get(key) is listeners:
                del self._listeners[key]

    def beat(self, key: str) -> None:
        """Wake everyone who listens to the key."""
        for event in self._listeners.get(key, ()):
            event.set()

    def __len__(self) -> int:
        """Return how many keys are listened to."""
        return len(self._listeners)


async def wait(event: asyncio.Event, timeout: float) -> bool:
    """Wait for the event, at most `timeout` seconds; return whether it was set."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    return True

"""Who receives a mailbox over a stream now, and so gets what does not wait?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from controlplane.domain.message import StoredFrame

LIVE_BYTES: Final = 256 << 10
"""Of frames that wait for one listener; a single larger one may wait too."""
LIVE_FRAMES: Final = 1000


class Waiting:
    """What one listener has not taken yet."""

    def __init__(self, news: asyncio.Event) -> None:
        self._news = news
        self._frames: list[StoredFrame] = []
        self._bytes = 0

    @property
    def room(self) -> int:
        """Bytes it can take; 0: not now."""
        return max(0, LIVE_BYTES - self._bytes) if len(self._frames) < LIVE_FRAMES else 0

    def put(self, frame: StoredFrame) -> None:
        """Take a frame if there is any room."""
        if self.room:
            self._frames.append(frame)
            self._bytes += len(frame.frame)
            self._news.set()

    def take(self) -> list[StoredFrame]:
        """Return what waits, in order, and forget it."""
        taken, self._frames, self._bytes = self._frames, [], 0
        return taken


class Live:
    """The open streams of mailboxes that no sidecar owns. What comes for one goes to all of its streams."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Waiting]] = {}

    @contextmanager
    def listen(self, mailbox: str, news: asyncio.Event) -> Iterator[Waiting]:
        """Take what passes for a mailbox, for the length of the block; `news` is set when something came."""
        waiting = Waiting(news)
        listeners = self._listeners.setdefault(mailbox, [])
        listeners.append(waiting)
        try:
            yield waiting
        finally:
            listeners.remove(waiting)
            if not listeners:
                self._listeners.pop(mailbox, None)

    def room(self, mailbox: str) -> int | None:
        """Return the room of the listener that has most, in bytes; None if nobody listens."""
        return max((each.room for each in self._listeners.get(mailbox, ())), default=None)

    def hand(self, frame: StoredFrame) -> None:
        """Give a frame to everybody who listens and has room; the others miss it, as nothing of it waits."""
        for each in self._listeners.get(frame.mailbox, ()):
            each.put(frame)

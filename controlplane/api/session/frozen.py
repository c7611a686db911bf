"""Which sidecars neither read nor speak?

HTTP/2 pings notice a peer that is gone or frozen, but not one that has left so much unread that no ping gets through: a ping
waits behind the data, and its time-out begins when it is written. So a write that does not end while nothing is heard either
ends the session. A sidecar that is merely slow gives signs of life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.api.session.writer import Writer


class Watchdog:
    """Looks at every session from time to time, with one timer for all of them."""

    def __init__(self, seconds: float) -> None:
        """Begin with no sessions.

        Args:
            seconds: Between two looks; a sidecar gives several signs of life in that time. A session ends at the second look that
                finds nothing changed.
        """
        self._seconds = seconds
        self._seen: dict[Writer, tuple[int, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(self, writer: Writer) -> Iterator[None]:
        """Look at this session too."""
        self._seen[writer] = (-1, -1)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)
        try:
            yield
        finally:
            del self._seen[writer]
            if not self._seen and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look(self) -> None:
        for writer, before in list(self._seen.items()):
            now = (writer.writes, writer.heard)
            if writer.writing and now == before:
                writer.end("its sidecar neither reads nor speaks")
            self._seen[writer] = now
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

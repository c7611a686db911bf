"""How does the control plane learn of a sidecar's death at once, without ever holding up the supervisor?"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping

LIMIT = 256 << 10
"""Bytes that wait for a control plane that does not read; beyond it the oldest lines go."""
_KERNEL_BUFFER = 8 << 10


class Channel:
    """The supervisor's end of the supervision channel: JSON lines, one way, for one life of the control plane.

    Nothing here blocks. A line is sent whole or not at all. What is dropped costs time only: a lost `sidecar_exited` is
    noticed when the lease of its task ends.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        """Make the pair; `theirs` is for the control plane."""
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ours.settimeout(0.0)
        # A small kernel buffer leaves the choice of what to drop to us: the oldest, not the newest.
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
        self._limit = limit
        self._begun = b""  # the rest of a line of which the first part is sent
        self._lines: deque[bytes] = deque()
        self._size = 0
        self.dropped = 0
        self.broken = False
        """Whether the other end is closed, so that nothing put in will ever be read."""

    def fileno(self) -> int:
        """Return the descriptor to wait on until it can be written."""
        return self._ours.fileno()

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._begun or self._lines)

    @property
    def waiting_bytes(self) -> int:
        """How much waits to be sent."""
        return len(self._begun) + self._size

    def put(self, event: Mapping[str, object]) -> None:
        """Send an event, or keep it until there is room."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        self._lines.append(line)
        self._size += len(line)
        while len(self._lines) > 1 and self.waiting_bytes > self._limit:
            self._size -= len(self._lines.popleft())
            self.dropped += 1
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now; after the other end was closed everything is dropped."""
        while self.pending and not self.broken:
            if not self._begun:
                self._begun = self._lines.popleft()
                self._size -= len(self._begun)
            try:
                self._begun = self._begun[self._ours.send(self._begun) :]
            except BlockingIOError:
                return
            except OSError:  # EPIPE, ECONNRESET
                self.broken = True

    def close(self) -> None:
        """End the channel, dropping what waits; closing twice is harmless."""
        self.broken = True
        self._ours.close()
        self.theirs.close()

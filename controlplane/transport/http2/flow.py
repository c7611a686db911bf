"""How much may the peer still send? RFC 9113, section 5.2, for one stream or for the connection."""

from __future__ import annotations


class Inflow:
    """The window a peer sends into. What was read is given back in pieces of half a window, not frame by frame."""

    __slots__ = ("_ahead", "_returned", "_size", "window")

    def __init__(self, window: int, size: int | None = None) -> None:
        """Begin with what the peer may send without being told.

        Args:
            window: Bytes the peer may send now.
            size: Bytes it may send in the long run without anything being read; the same if not given.
        """
        self.window = window
        self._size = window if size is None else size
        self._returned = self._size - window
        self._ahead = 0
        """Granted beyond the size, for a message that is larger; what is read next pays for it."""

    def took(self, size: int) -> bool:
        """Note that bytes arrived; False if the peer had no right to send them."""
        self.window -= size
        return self.window >= 0

    def read(self, size: int) -> int:
        """Note that bytes are out of the way, and return the increment to grant now; 0 for none."""
        paid = min(self._ahead, size)
        self._ahead -= paid
        self._returned += size - paid
        return self._grant() if self._returned * 2 >= self._size else 0

    def widen(self, size: int) -> int:
        """Let the peer send this much ahead from now on, and return the increment to grant now."""
        self._returned += max(0, size - self._size)
        self._size = max(self._size, size)
        return self._grant()

    def demand(self, size: int) -> int:
        """Return the increment without which this many more bytes of one message could not come; 0 if they can."""
        if size <= self.window:
            return 0
        missing = size - self.window
        self._ahead += max(0, missing - self._returned)
        self._returned = max(0, self._returned - missing)
        self.window += missing
        return missing

    def _grant(self) -> int:
        granted, self._returned = self._returned, 0
        self.window += granted
        return granted

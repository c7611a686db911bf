"""How often was a message passed on before its reader passes it on?"""

from __future__ import annotations

from typing import Final

_MOST: Final = 4096
"""Messages that are remembered; when there are more the oldest is forgotten."""


class Hops:
    """Counts what no reader is relied on to count: a message that is sent with the id of one that was fetched is passed on."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def fetched(self, message_id: str, hops: int) -> None:
        """Note a message its reader has now, and how often it was passed on until here."""
        self._of.pop(message_id, None)
        while len(self._of) >= _MOST:
            del self._of[next(iter(self._of))]
        self._of[message_id] = hops

    def of_next(self, message_id: str) -> int:
        """Return the hop count of a message that is sent now: 0 for a new one, one more for one that was fetched."""
        hops = self._of.get(message_id)
        return 0 if hops is None else hops + 1

"""What is said beside the journal and waits: one heartbeat and one grant of credit, whatever piles up behind a slow write."""

from __future__ import annotations

from claude_conductor.v1.session_service_pb2 import ConnectRequest, Credit, Heartbeat


class Notes:
    """A newer heartbeat replaces one that was not written, and credit adds up: nothing grows, and no credit is lost."""

    def __init__(self) -> None:
        self._beat: Heartbeat | None = None
        self._credit: Credit | None = None

    def beat(self, heartbeat: Heartbeat) -> None:
        """Give this sign of life next."""
        self._beat = heartbeat

    def credit(self, messages: int, size: int) -> None:
        """Grant so much more; a grant of nothing is said too."""
        due = self._credit or Credit()
        self._credit = Credit(messages=due.messages + messages, bytes=due.bytes + size)

    def take(self) -> ConnectRequest | None:
        """Return what is to be written next, the heartbeat first; None if there is nothing."""
        if self._beat is not None:
            beat, self._beat = self._beat, None
            return ConnectRequest(heartbeat=beat)
        if self._credit is not None:
            credit, self._credit = self._credit, None
            return ConnectRequest(credit=credit)
        return None

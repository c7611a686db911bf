"""One request of the agent, kept while it may have to be asked again."""

from __future__ import annotations

import h11

from agent_sidecar.gateway.estimate import Need
from agent_sidecar.gateway.usage import Usage
from claude_conductor.errors import PayloadTooLargeError


class Question:
    """Head and body of a request.

    Args:
        head: As it goes to the provider.
        most: Bytes a body may have.
        kept: Bytes of a body that are kept; of a larger one nothing is.
    """

    def __init__(self, head: h11.Request, most: int, kept: int) -> None:
        self.head = head
        self.whole = False
        """Its body was read to the end."""
        self.need: Need | None = None
        """What it may use, where somebody asked."""
        self._most = most
        self._keep = kept
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            PayloadTooLargeError: It is too long.
        """
        self._size += len(piece)
        if self._size > self._most:
            raise PayloadTooLargeError(limit=self._most)
        if self._size <= self._keep:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def unknown(self) -> Usage | None:
        """Return what is counted of an answer that began and broke off before it told its use: what was to be read for it."""
        return Usage(self.need.input_tokens, 0, 0, 0, self.need.model) if self.need is not None else None

    @property
    def again(self) -> list[bytes] | None:
        """The body, if all of it is here; None where it cannot be sent again."""
        return self._pieces if self.whole and self._size <= self._keep else None

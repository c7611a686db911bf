"""How a stream of bytes becomes lines with a bound on memory, the same for any way it is cut into chunks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line that was longer than the bound and is gone."""

    size: int
    """Its bytes, without the newline."""


class Lines:
    """Cuts chunks into lines without their newline.

    Args:
        limit: Longest line that is kept, in bytes; also the most that is ever held back.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._dropped = 0

    def feed(self, chunk: bytes) -> list[bytes | TooLong]:
        """Return the lines that the chunk completes, in order."""
        *ended, rest = chunk.split(b"\n")
        lines: list[bytes | TooLong] = []
        for piece in ended:
            self._hold(piece)
            lines.append(self._take())
        self._hold(rest)
        return lines

    def finish(self) -> list[bytes | TooLong]:
        """Return the last line if it did not end with a newline."""
        return [self._take()] if self._held or self._dropped else []

    def _hold(self, piece: bytes) -> None:
        if self._dropped or len(self._held) + len(piece) > self._limit:
            self._dropped += len(self._held) + len(piece)
            self._held.clear()
        else:
            self._held += piece

    def _take(self) -> bytes | TooLong:
        if self._dropped:
            size, self._dropped = self._dropped, 0
            return TooLong(size)
        line = bytes(self._held)
        self._held.clear()
        return line

"""What the output of a program without a protocol of its own means: it is shown as it is, and its last part is the answer."""

from __future__ import annotations

from agent_sidecar.drivers.driver import Answer, Observation

ANSWER_BYTES = 16 * 1024
"""How much of the end of the output is kept as the answer."""


class PlainOutput:
    """Passes bytes through and remembers the end of them.

    Args:
        answer_bytes: How much of the end becomes the `Answer`; 0 for a program whose output is a log.
    """

    def __init__(self, answer_bytes: int = ANSWER_BYTES) -> None:
        self._limit = answer_bytes
        self._tail = bytearray()
        self._cut = False

    def feed(self, chunk: bytes) -> tuple[bytes, list[Observation]]:
        """Return the chunk as it is; the meaning comes at the end."""
        self._tail += chunk[-self._limit :] if self._limit else b""
        surplus = len(self._tail) - self._limit
        if surplus > 0 or len(chunk) > self._limit:
            self._cut = True
        if surplus > 0:
            del self._tail[:surplus]
        return chunk, []

    def finish(self) -> tuple[bytes, list[Observation]]:
        """Return the answer: the end of the output, beginning with a whole line where something was cut off before it."""
        text = bytes(self._tail)
        if self._cut and b"\n" in text[:-1]:
            text = text.split(b"\n", 1)[1]
        answer = text.decode("utf-8", "replace").strip()
        return b"", [Answer(answer)] if answer else []

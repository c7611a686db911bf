"""How many tokens an answer used, read while it passes."""

from __future__ import annotations

from dataclasses import dataclass

from agent_sidecar.untrusted.json_shape import Json, as_count, as_object, as_text, parse_object
from agent_sidecar.untrusted.lines import Lines

LONGEST_EVENT = 1 << 20
"""Bytes of one line of an event stream; longer ones are passed on, not read."""
LONGEST_DOCUMENT = 4 << 20
"""Bytes of an answer that is not streamed."""

LONGEST_MODEL = 128
"""Characters of a model's name."""

_PIECE = b'"content_block_delta"'
_AROUND_A_PIECE = 95
"""Bytes of such an event besides the text."""
_BYTES_A_TOKEN = 3

_NAMES = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    model: str = ""
    """As the answer names it; empty where it does not."""

    @property
    def tokens(self) -> int:
        """Tokens of all sorts."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


class UsageReader:
    """Watches the bytes of one answer.

    Args:
        content_type: Value of the answer's header; decides between event stream and JSON document, anything else is not read.
    """

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self._streamed = kind == "text/event-stream"
        self._whole = kind == "application/json"
        self._lines = Lines(LONGEST_EVENT)
        self._document = bytearray()
        self._counts: dict[str, int] = {}
        self._model = ""
        self._pieces = self._piece_bytes = 0
        self._complete = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes, cut in any way."""
        if self._streamed:
            for line in self._lines.feed(data):
                if not isinstance(line, bytes) or not line.startswith(b"data:"):
                    continue
                if _PIECE in line[:64]:
                    self._pieces += 1
                    self._piece_bytes += max(0, len(line) - _AROUND_A_PIECE)
                elif b'"usage"' in line:
                    self._event(parse_object(line.removeprefix(b"data:")) or {})
        elif self._whole:
            self._document += data
            if len(self._document) > LONGEST_DOCUMENT:
                self._whole = False
                self._document.clear()

    def usage(self) -> Usage | None:
        """Return what is known by now; None where the answer told nothing."""
        if self._whole and self._document:
            self._message(parse_object(bytes(self._document)) or {})
        if not self._counts:
            return None
        read, written, cache_read, cache_write = (self._counts.get(name, 0) for name in _NAMES)
        if self._streamed and not self._complete:  # its total comes last: what passed is all that is known
            written = max(written, self._pieces, self._piece_bytes // _BYTES_A_TOKEN)
        return Usage(read, written, cache_read, cache_write, self._model)

    def _event(self, event: Json) -> None:
        match event.get("type"):
            case "message_start":
                self._message(as_object(event.get("message")))
            case "message_delta":
                self._complete = True
                self._note(as_object(event.get("usage")))
            case _:
                return

    def _message(self, message: Json) -> None:
        self._model = " ".join(as_text(message.get("model")).split())[:LONGEST_MODEL]
        self._note(as_object(message.get("usage")))

    def _note(self, counts: Json) -> None:
        """Remember counts; the later ones of a stream are totals and replace the earlier."""
        self._counts.update({name: as_count(counts[name]) for name in _NAMES if isinstance(counts.get(name), int)})

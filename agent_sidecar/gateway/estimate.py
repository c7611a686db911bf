"""What may one request to the Messages API use at most? Estimated from its body, before it is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from agent_sidecar.untrusted.json_shape import Json, as_count, as_object, as_text, parse_object
from claude_conductor.errors import InvalidArgumentError

PATH: Final = "/v1/messages"
"""What is paid for; counting tokens and listing models is not."""
_BYTES_A_TOKEN: Final = 2
"""Text and code have three to four bytes a token: half of the bytes is more than is read, but for things like random data."""
_IMAGE: Final = 5000
"""Tokens of the largest image."""
_ELSEWHERE: Final = 200_000
"""Tokens of a document that is not in the request but fetched by the provider: as many as a model takes at once."""
LONGEST_MODEL: Final = 128


@dataclass(frozen=True, slots=True)
class Need:
    """The most that one request may use."""

    model: str
    """As the request names it."""
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens of both sorts."""
        return self.input_tokens + self.output_tokens


def need(body: bytes) -> Need:
    """Return what a request may use.

    Raises:
        InvalidArgumentError: The body is no JSON object, or names no model or no `max_tokens`: the provider would refuse it.
    """
    asked = parse_object(body)
    if asked is None:
        raise InvalidArgumentError("The request's body is no JSON object.")
    model, most = as_text(asked.get("model"))[:LONGEST_MODEL], as_count(asked.get("max_tokens"))
    if not model or not most:
        raise InvalidArgumentError("A request names a `model` and `max_tokens` above 0.")
    return Need(model, math.ceil(_weight(asked) / _BYTES_A_TOKEN), most)


def _weight(value: object) -> int:
    """Return the bytes of everything in a value that a model reads; media count as many bytes as their tokens are worth."""
    waiting, weight = [value], 0
    while waiting:
        match waiting.pop():
            case dict() as found:
                media = _media(found)
                weight += media
                waiting += [part for name, part in found.items() if not (media and name == "source")]
                weight += sum(len(name.encode()) + 4 for name in found)
            case list() as found:
                waiting += found
            case str() as found:
                weight += len(found.encode("utf-8", "replace"))
            case _:
                weight += 8
    return weight


def _media(block: Json) -> int:
    source = as_object(block.get("source"))
    kind, how = block.get("type"), source.get("type")
    if kind == "image" and how:
        return _IMAGE * _BYTES_A_TOKEN
    if kind == "document" and how in ("url", "file"):
        return _ELSEWHERE * _BYTES_A_TOKEN
    return 0

"""What was answered to the agent's calls, in case an answer was lost on its way?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent_sidecar.uplink.inbound import Item

ANSWERS_KEPT: Final = 8
"""Answers that can be repeated, of one agent process."""


class Repeats:
    """The last answers, by the id of their request."""

    def __init__(self) -> None:
        self._answers: dict[str, Sequence[tuple[str, Item]]] = {}

    def answered(self, request_id: str) -> Sequence[tuple[str, Item]]:
        """Return (mailbox, message) as they were answered to this request; none if it was not, or too long ago."""
        return self._answers.get(request_id, ())

    def remember(self, request_id: str, answer: Sequence[tuple[str, Item]]) -> None:
        """Keep an answer, unless it is empty or the request has no id, and forget the oldest beyond the bound."""
        if not request_id or not answer:
            return
        self._answers.pop(request_id, None)
        self._answers[request_id] = answer
        while len(self._answers) > ANSWERS_KEPT:
            del self._answers[next(iter(self._answers))]

    def clear(self) -> None:
        """Forget everything: who asked is gone."""
        self._answers.clear()

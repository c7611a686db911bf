"""What an agent asks a human, and what became of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the present task. The control plane checks it."""

    id: str
    """Asking again with the same one is the same question."""
    text: str
    approval: bool = False
    options: tuple[str, ...] = ()
    raw: str = ""
    """Of an approval: the command or diff."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a human answered."""

    text: str
    option: int
    """From 1; 0: none was chosen."""
    by: str


class Outcome(enum.Enum):
    """How a question was closed. The names are those of the proto's QuestionState."""

    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Closed:
    """What became of a question."""

    outcome: Outcome
    answer: Answer | None = None

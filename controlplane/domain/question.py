"""What does an agent ask a human, and which answers fit?"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from claude_conductor.errors import InvalidArgumentError

MAX_ID = 128
"""Characters."""
MAX_TEXT = 4 << 10
MAX_OPTIONS = 10
MAX_OPTION = 256
MAX_RAW = 64 << 10
MAX_ANSWER = 64 << 10
"""Bytes of UTF-8, like those above."""
LONGEST_WAIT = 24 * 3600.0
"""Seconds an agent may wait for its answer."""
APPROVE, DENY = "approve", "deny"
_SUMMARY = 200


class QuestionKind(enum.Enum):
    """What is wanted of the human. The names are those of the proto's QuestionKind."""

    QUESTION = "question"
    APPROVAL = "approval"


class QuestionState(enum.Enum):
    """Where a question stands. The names are those of the proto's QuestionState."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a human answered."""

    by: str
    """Authenticated, such as `operator`."""
    text: str = ""
    option: int = 0
    """From 1; 0: none was chosen."""
    request_id: str = ""
    """Idempotency key of who answered."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one attempt. Times in seconds since the epoch."""

    id: str
    text: str
    attempt: int
    ask_time: float
    expire_time: float
    kind: QuestionKind = QuestionKind.QUESTION
    options: tuple[str, ...] = ()
    raw: str = ""
    """Of an approval: the command or diff, as the agent gave it."""
    state: QuestionState = QuestionState.OPEN
    close_time: float | None = None
    answer: Answer | None = None

    @property
    def open(self) -> bool:
        """Whether somebody has to answer it."""
        return self.state is QuestionState.OPEN

    @property
    def summary(self) -> str:
        """One line about it."""
        line = " ".join(self.text.split())
        return line if len(line) <= _SUMMARY else line[: _SUMMARY - 1] + "…"

    def same_as(self, other: Question) -> bool:
        """Return whether the same is asked under the same id; when, and what came of it, does not count."""
        return (self.id, self.attempt, self.kind, self.text, self.options, self.raw) == (
            *(other.id, other.attempt, other.kind, other.text),
            *(other.options, other.raw),
        )


def check_question(question: Question) -> Question:
    """Return the question as it is stored: an approval gets its two options.

    Raises:
        InvalidArgumentError: It cannot be asked; the details name the field.
    """
    _bounded("question_id", len(question.id), MAX_ID)
    _bounded("text", len(question.text.encode()), MAX_TEXT)
    if not 0 < question.expire_time - question.ask_time <= LONGEST_WAIT + 1:
        raise InvalidArgumentError("A question waits for more than nothing and at most 24 h.", field="timeout")
    if question.kind is QuestionKind.APPROVAL:
        _bounded("raw", len(question.raw.encode()), MAX_RAW)
        if question.options not in {(), (APPROVE, DENY)}:
            raise InvalidArgumentError("An approval has no options of its own.", field="options")
        return replace(question, options=(APPROVE, DENY))
    if question.raw:
        raise InvalidArgumentError("Only an approval has a command or diff.", field="raw")
    _bounded("options", len(question.options), MAX_OPTIONS, least=0)
    for option in question.options:
        _bounded("options", len(option.encode()), MAX_OPTION)
    return question


def check_answer(question: Question, answer: Answer) -> None:
    """Check that an answer fits its question.

    Raises:
        InvalidArgumentError: It does not; the details name the field.
    """
    _bounded("text", len(answer.text.encode()), MAX_ANSWER, least=0)
    _bounded("request_id", len(answer.request_id), MAX_ID, least=0)
    if not 0 <= answer.option <= len(question.options):
        what = f"The question has the options 1 to {len(question.options)}" if question.options else "The question has no options"
        raise InvalidArgumentError(f"{what}.", field="option", value=answer.option)
    if question.kind is QuestionKind.APPROVAL and not answer.option:
        raise InvalidArgumentError("An approval is answered with option 1 (approve) or 2 (deny).", field="option")
    if not answer.option and not answer.text.strip():
        raise InvalidArgumentError("An answer has words, or an option.", field="text")


def _bounded(field: str, size: int, most: int, least: int = 1) -> None:
    if not least <= size <= most:
        raise InvalidArgumentError(f"`{field}` has to be from {least} to {most} long.", field=field, value=size)

"""How does an agent's call become a question to a human, and the answer the call's?"""

from __future__ import annotations

from typing import Final, Protocol

from agent_sidecar.run.question import Answer, Question
from agent_sidecar.run.task import Lease
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.ids import Mint
from claude_conductor.v1 import local_service_pb2, task_pb2

pb = local_service_pb2
QUESTIONS_A_SECOND: Final = 0.5
QUESTIONS_AT_ONCE: Final = 30
"""Each question is a change of the task in the store, and something a human reads."""
_DEFAULT_SECONDS: Final = 3600.0
_LONGEST_SECONDS: Final = 24 * 3600.0
_WAY_BACK: Final = 0.25
"""Seconds of the caller's deadline that are left for the control plane's word and its way back."""
_APPROVE: Final = 1
_TEXT_BYTES: Final = 4 << 10
_RAW_BYTES: Final = 64 << 10


class Humans(Protocol):
    """Where questions to humans go."""

    async def ask(self, lease: Lease, question: Question, seconds: float) -> Answer:
        """Return the answer, within `seconds`. Cancelling withdraws the question.

        Raises:
            DeadlineExceededError: Nobody answered in time.
            StaleLeaseError: The task ended meanwhile.
            ConductorError: It cannot be asked.
        """


def patience(request: pb.AskHumanRequest, remaining: float | None) -> float:
    """Return how many seconds the answer is waited for.

    Args:
        request: What is asked.
        remaining: Seconds until the deadline of the call; None: it has none.

    Raises:
        InvalidArgumentError: It asks for none, or for more than a day.
    """
    seconds = request.timeout.ToMilliseconds() / 1000 if request.HasField("timeout") else _DEFAULT_SECONDS
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise InvalidArgumentError("A question waits for more than nothing and at most 24 h.", field="timeout", seconds=seconds)
    return seconds if remaining is None else max(0.001, min(seconds, remaining - _WAY_BACK))


def question_of(request: pb.AskHumanRequest, mint: Mint) -> Question:
    """Return what is asked; what is too large to be journalled is refused here, everything else by the control plane.

    Raises:
        InvalidArgumentError: It is too long.
    """
    sizes = {"text": len(request.text.encode()), "raw": len(request.raw.encode())}
    for field, most in (("text", _TEXT_BYTES), ("raw", _RAW_BYTES)):
        if sizes[field] > most:
            raise InvalidArgumentError(f"`{field}` has at most {most} bytes.", field=field, bytes=sizes[field])
    if sum(map(len, request.options)) > _TEXT_BYTES:
        raise InvalidArgumentError("The options are too long.", field="options")
    return Question(
        id=request.question_id or mint("question_"),
        text=request.text,
        approval=request.kind == task_pb2.QUESTION_KIND_APPROVAL,
        options=tuple(request.options),
        raw=request.raw,
    )


def response(question: Question, answer: Answer) -> pb.AskHumanResponse:
    """Return the answer as the agent gets it."""
    options = ("approve", "deny") if question.approval else question.options
    chosen = 0 < answer.option <= len(options)
    return pb.AskHumanResponse(
        question_id=question.id,
        text=answer.text,
        option=answer.option,
        option_text=options[answer.option - 1] if chosen else "",
        approved=question.approval and answer.option == _APPROVE,
        answered_by=answer.by,
    )

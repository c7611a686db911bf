"""How do questions to humans travel, and their answers?"""

from __future__ import annotations

from typing import Final

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import session_service_pb2, task_pb2
from controlplane.api.convert.values import span_of, timestamp
from controlplane.domain.question import Answer, Question, QuestionKind, QuestionState
from controlplane.domain.task import Lease
from controlplane.service.results import HasAsked

STATES: Final = {state: task_pb2.QuestionState.Value(f"QUESTION_STATE_{state.name}") for state in QuestionState}
KINDS: Final = {kind: task_pb2.QuestionKind.Value(f"QUESTION_KIND_{kind.name}") for kind in QuestionKind}
_KINDS_BACK: Final[dict[int, QuestionKind]] = {0: QuestionKind.QUESTION} | {number: kind for kind, number in KINDS.items()}


def question_to_proto(question: Question | None) -> task_pb2.Question | None:
    """Return the question as clients see it."""
    if question is None:
        return None
    return task_pb2.Question(
        question_id=question.id,
        kind=KINDS[question.kind],
        text=question.text,
        options=question.options,
        raw=question.raw,
        state=STATES[question.state],
        attempt=question.attempt,
        ask_time=timestamp(question.ask_time),
        expire_time=timestamp(question.expire_time),
        close_time=timestamp(question.close_time),
        answer=answer_to_proto(question.answer),
    )


def answer_to_proto(answer: Answer | None) -> task_pb2.Answer | None:
    """Return the answer."""
    return None if answer is None else task_pb2.Answer(text=answer.text, option=answer.option, answered_by=answer.by)


def asked_from_proto(lease: Lease, asked: session_service_pb2.QuestionAsked) -> HasAsked:
    """Return the question a sidecar brings.

    Raises:
        InvalidArgumentError: It is of no kind this version knows, or waits for a time that is none.
    """
    if asked.kind not in _KINDS_BACK:
        raise InvalidArgumentError("This is no kind of question.", field="asked.kind", value=asked.kind)
    return HasAsked(
        lease=lease,
        question_id=asked.question_id,
        kind=_KINDS_BACK[asked.kind],
        text=asked.text,
        options=tuple(asked.options),
        raw=asked.raw,
        timeout=span_of(asked.timeout, "asked.timeout"),
    )

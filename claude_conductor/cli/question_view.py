"""How is a question of an agent shown to the human who has to answer it? Whatever it says, it cannot pass as anything else."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from claude_conductor.cli import output
from claude_conductor.units import format_duration
from claude_conductor.v1 import task_pb2

_SHORT: Final = 100
_MARK: Final = "| "
"""Before each line an agent wrote, so that none passes as a line of ours."""


def is_open(task: task_pb2.Task) -> bool:
    """Return whether the task waits for a human."""
    return task.state == task_pb2.TASK_STATE_WAITING_FOR_HUMAN


def hint(task: task_pb2.Task) -> str:
    """Return one line about who waits for what, with the command that answers."""
    how = "--approve|--deny" if task.question.kind == task_pb2.QUESTION_KIND_APPROVAL else "TEXT"
    if task.question.options and how == "TEXT":
        how = "--option N"
    asked = " ".join(task.question.text.split())
    asked = asked if len(asked) <= _SHORT else asked[: _SHORT - 1] + "…"
    return f"`conductor tasks answer {task.task_id} {how}` answers: {output.printable(asked)}"


def lines(task: task_pb2.Task) -> list[tuple[str, str]]:
    """Return everything about the last question of a task, as lines; none if there was none."""
    if not task.HasField("question"):
        return []
    question = task.question
    approval = question.kind == task_pb2.QUESTION_KIND_APPROVAL
    options = [f"{number}  {output.printable(option)}" for number, option in enumerate(question.options, start=1)]
    found = [
        ("question", _standing(question)),
        ("asks to approve" if approval else "asks", _marked(question.text)),
        ("command or diff", _marked(question.raw)),
        ("options", "\n".join(options)),
    ]
    if question.HasField("answer"):
        found.append(("answer", _answer(question)))
    elif is_open(task):
        found.append(("answer with", hint(task).partition(" answers: ")[0]))
    return found


def _standing(question: task_pb2.Question) -> str:
    state = output.word(task_pb2.QuestionState, question.state, "QUESTION_STATE_")
    since = f"asked {output.age(question.ask_time)} ago in attempt {question.attempt}"
    if question.state == task_pb2.QUESTION_STATE_OPEN:
        left = question.expire_time.ToNanoseconds() / 1e9 - time.time()
        return f"{state}, {since}, {f'for {format_duration(left)} more' if left > 0 else 'about to expire'}"
    return f"{state}, {since}"


def _answer(question: task_pb2.Question) -> str:
    answer = question.answer
    chosen = question.options[answer.option - 1] if 0 < answer.option <= len(question.options) else ""
    words: Iterable[str] = (each for each in (output.printable(chosen), output.printable_lines(answer.text)) if each)
    return f"{': '.join(words)} (by {answer.answered_by})"


def _marked(text: str) -> str:
    plain = output.printable_lines(text)
    return "\n".join(f"{_MARK}{output.printable(line)}" for line in plain.split("\n")) if text else ""

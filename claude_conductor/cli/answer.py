"""`conductor tasks answer`: a human answers what a task asks."""

from __future__ import annotations

import secrets
import time
from typing import Annotated

import typer

from claude_conductor.cli import output, question_view, session, task_view
from claude_conductor.cli.completion import waiting_task_ids
from claude_conductor.cli.output import Format, FormatOption, say
from claude_conductor.errors import IllegalTransitionError, InvalidArgumentError
from claude_conductor.v1 import task_pb2

APPROVE, DENY = 1, 2


def answer(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", autocompletion=waiting_task_ids, parser=lambda text: text.rstrip("…"), help="Id of a task that asks."
        ),
    ],
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="The answer, or a word on the chosen option.")] = "",
    option: Annotated[int, typer.Option("--option", min=0, help="Number of the chosen option.", show_default=False)] = 0,
    approve: Annotated[bool, typer.Option("--approve", help="Approve the command or diff that is shown.")] = False,  # noqa: FBT002
    deny: Annotated[bool, typer.Option("--deny", help="Deny it.")] = False,  # noqa: FBT002
    question: Annotated[
        str, typer.Option("--question", metavar="ID", help="Only if it still asks this.", show_default="what it asks now")
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Answer what a task asks a human; its agent goes on with the answer. Without an answer the question is shown.

    The first answer counts. A command or diff is approved as it is shown, and nothing else.
    """
    if approve + deny + bool(option) > 1:
        raise InvalidArgumentError("One of --option, --approve and --deny is enough.", next_step="choose one")
    chosen = APPROVE if approve else DENY if deny else option
    session.run(_answer(task, text, chosen, question, form, approval=approve or deny))


async def _answer(task_id: str, text: str, option: int, question_id: str, form: Format, *, approval: bool) -> None:
    async with session.connect() as conductor:
        task = await conductor.tasks.get(task_id)
        if not task.HasField("question"):
            raise IllegalTransitionError("This task has not asked anything.", next_step="`conductor tasks list` shows who asks")
        if not text and not option:
            now = time.time()
            output.show_one(
                form, task.question, lambda: [("task", task_view.line(task, now)), *question_view.lines(task)], task.task_id
            )
            return
        if approval and task.question.kind != task_pb2.QUESTION_KIND_APPROVAL:
            raise InvalidArgumentError("This is a question, and no approval.", next_step=f"answer it: {question_view.hint(task)}")
        task = await conductor.tasks.answer(
            task.task_id,
            text,
            option=option,
            question_id=question_id or task.question.question_id,
            request_id=secrets.token_hex(16),
        )
    if form is Format.TABLE:
        output.facts([(title, value) for title, value in question_view.lines(task) if title != "question"])
        say(f"{task.task_id} {task_view.state(task)}")
    else:
        output.show_one(form, task, list, task.task_id)

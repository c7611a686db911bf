"""`conductor types`: which types of tasks there are, and what each tells an agent."""

from __future__ import annotations

import difflib
from typing import Annotated, Final

import typer

from claude_conductor.cli import budgets, commands, output, session
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings import words
from claude_conductor.units import format_duration
from claude_conductor.v1 import agent_pb2, task_pb2

app = commands.app("List and show types of tasks: templates around a prompt, with defaults.", group=True)

_DEFAULT: Final = "-"
_PROMPT: Final = "{prompt}"
_BUILT_IN: Final = "built in"


@app.command("list")
def list_(form: FormatOption = Format.TABLE) -> None:
    """List the types a task can have. A file `types/NAME.md` in the control plane's home adds one or replaces a built-in one."""
    output.show_rows(form, session.run(_types()), COLUMNS, lambda kind: kind.name, "no types")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="TYPE", help="Name of a type, such as code_review.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what a type tells an agent, and its defaults."""
    kinds = {kind.name: kind for kind in session.run(_types())}
    wanted = words.task_type(name)
    if wanted not in kinds:
        near = difflib.get_close_matches(wanted, kinds, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InvalidArgumentError("There is no such type of task.", next_step=f"{meant}there are: {', '.join(kinds)}", type=name)
    kind = kinds[wanted]
    output.show_one(form, kind, lambda: _lines(kind), kind.name)


async def _types() -> list[task_pb2.TaskType]:
    async with session.connect() as conductor:
        return await conductor.tasks.types()


def _level(kind: task_pb2.TaskType) -> str:
    return output.word(agent_pb2.IsolationLevel, kind.isolation_level, "ISOLATION_LEVEL_") if kind.isolation_level else ""


def _timeout(kind: task_pb2.TaskType) -> str:
    return format_duration(kind.timeout.ToNanoseconds() / 1e9) if kind.HasField("timeout") else ""


def _about(kind: task_pb2.TaskType) -> str:
    if kind.problem:
        return f"cannot be used: {kind.problem}"
    return kind.about or ("The prompt as it is" if kind.template.strip() == _PROMPT else "")


def _lines(kind: task_pb2.TaskType) -> list[tuple[str, str]]:
    return [
        ("type", kind.name),
        ("about", output.printable(_about(kind)) if not kind.problem else ""),
        ("problem", output.printable(kind.problem)),
        ("file", kind.file or _BUILT_IN),
        ("priority", str(kind.priority or "")),
        ("timeout", _timeout(kind)),
        ("attempts", str(kind.max_attempts or "")),
        ("level", _level(kind)),
        ("budget", budgets.words(kind.budget)),
        ("template", output.printable_lines(kind.template.strip())),
    ]


COLUMNS: Final = (
    Column("TYPE", lambda kind: kind.name, least=15),
    Column("PRIORITY", lambda kind: str(kind.priority or _DEFAULT)),
    Column("TIMEOUT", lambda kind: _timeout(kind) or _DEFAULT),
    Column("ATTEMPTS", lambda kind: str(kind.max_attempts or _DEFAULT)),
    Column("LEVEL", lambda kind: _level(kind) or _DEFAULT),
    Column("FROM", lambda kind: kind.file or _BUILT_IN, wide=True),
    Column("ABOUT", _about),
)

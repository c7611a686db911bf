"""How any program is started as an agent: its arguments, where the prompt goes, and what it is shown of the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent_sidecar.drivers.driver import Capabilities, Command, OutputParser, TaskOrder
from agent_sidecar.drivers.plain_output import PlainOutput
from claude_conductor.errors import InvalidArgumentError

PROMPT_FILE = ".conductor/prompt.txt"
"""Relative to the workspace."""
PROMPT_PATH = f"/workspace/{PROMPT_FILE}"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
SHELL = "/bin/sh"

LONGEST_ARGUMENT = 128 * 1024 - 1
"""Bytes of one argument or variable, without its ending NUL: MAX_ARG_STRLEN of execve(2)."""


class CommandDriver:
    """Starts the program that the task names, once per task.

    Args:
        toolchains: Host folders every such program may use, at their own path.
        search_path: Folders put behind the system's on PATH, so that they never shadow a system program.
    """

    name = "command"

    def __init__(self, toolchains: tuple[Path, ...] = (), search_path: tuple[Path, ...] = ()) -> None:
        self._toolchains = toolchains
        self._environment = with_search_path(search_path)

    @property
    def capabilities(self) -> Capabilities:
        """A process per task, no model provider."""
        return Capabilities()

    def command(self, order: TaskOrder) -> Command:
        """Return how the task's program is started.

        In an argument vector `{prompt}` is replaced by the prompt and `{prompt_file}` by the path of its file. In a shell line
        `{prompt}` becomes `"$1"`: the prompt is data there, so write it without quotes around it.

        Raises:
            InvalidArgumentError: No command or both kinds of it, an unknown way for the prompt, or one too long for it.
        """
        if order.prompt_by not in ("argument", "stdin", "file"):
            raise InvalidArgumentError(
                "The prompt reaches a program by `argument`, `stdin` or `file`.", prompt_by=order.prompt_by
            )
        argv = _argv(order)
        return Command(
            argv=argv,
            environment={**self._environment, **order.environment},
            stdin=order.prompt.encode("utf-8", "replace") if order.prompt_by == "stdin" else b"",
            files={PROMPT_FILE: order.prompt.encode("utf-8", "replace")} if order.prompt_by == "file" else {},
            toolchains=self._toolchains,
        )

    def parser(self) -> OutputParser:
        """Return a parser that shows the output as it is."""
        return PlainOutput()


def with_search_path(search_path: tuple[Path, ...]) -> Mapping[str, str]:
    """Return the PATH variable with these folders behind the system's; nothing where there are none."""
    return {"PATH": ":".join((SYSTEM_PATH, *map(str, search_path)))} if search_path else {}


def checked_argument(text: str, *, field: str) -> str:
    """Return the text if it can be one argument of a program.

    Raises:
        InvalidArgumentError: It holds a NUL or is longer than an argument may be (execve(2)).
    """
    if "\0" in text:
        raise InvalidArgumentError("A NUL character cannot be part of an argument.", field=field)
    size = len(text.encode("utf-8", "replace"))
    if size > LONGEST_ARGUMENT:
        raise InvalidArgumentError(
            "The text is longer than one argument of a program may be.",
            next_step="hand the prompt over with prompt_by `stdin` or `file`",
            field=field,
            bytes=size,
            limit=LONGEST_ARGUMENT,
        )
    return text


def _argv(order: TaskOrder) -> tuple[str, ...]:
    """Return the argument vector the order asks for, placeholders filled in."""
    if bool(order.command) == bool(order.shell_line):
        raise InvalidArgumentError(
            "A `command` agent needs either a command or a shell line."
            if not order.command
            else "Command and shell line exclude each other.",
            next_step="give one, such as `--cmd 'make check'`",
            task_id=order.task_id,
        )
    if order.shell_line:
        line = order.shell_line.replace("{prompt_file}", PROMPT_PATH)
        if "{prompt}" in line:
            prompt = checked_argument(order.prompt, field="prompt")
            line = checked_argument(line.replace("{prompt}", '"$1"'), field="shell_line")
            return (SHELL, "-c", line, "sh", prompt)
        return (SHELL, "-c", checked_argument(line, field="shell_line"))
    return tuple(checked_argument(_filled(argument, order.prompt), field="command") for argument in order.command)


def _filled(argument: str, prompt: str) -> str:
    """Fill the placeholders of one argument in; what the prompt itself contains is left alone."""
    before = argument.replace("{prompt_file}", PROMPT_PATH)
    return before.replace("{prompt}", prompt)

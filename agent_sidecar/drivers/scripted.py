"""How the scripted agent is started: it does what the lines of its prompt say, for tests and for `conductor test`."""

from __future__ import annotations

from pathlib import Path

from agent_sidecar.drivers.driver import Capabilities, Command, OutputParser, TaskOrder
from agent_sidecar.drivers.plain_output import PlainOutput
from agent_sidecar.drivers.toolchain import Toolchain, outermost

PROGRAM = Path(__file__).with_name("scripted_program.py")
"""The steps it knows are listed in that file."""


class ScriptedDriver:
    """Runs `scripted_program.py` with the sidecar's Python; the prompt reaches it by standard input.

    Args:
        python: The interpreter and its folders.
        program: The script; only its folder is shown to the agent besides the interpreter.
    """

    name = "scripted"

    def __init__(self, python: Toolchain, program: Path = PROGRAM) -> None:
        self._python = python
        self._program = program

    @property
    def capabilities(self) -> Capabilities:
        """A process per task, no model provider."""
        return Capabilities()

    def command(self, order: TaskOrder) -> Command:
        """Return how the script is run: isolated from the environment and without site packages, which halves its start time."""
        return Command(
            argv=(str(self._python.program), "-I", "-S", "-B", str(self._program)),
            environment=order.environment,
            stdin=order.prompt.encode("utf-8", "replace"),
            toolchains=outermost([*self._python.folders, self._program.parent]),
        )

    def parser(self) -> OutputParser:
        """Return a parser that shows the output as it is."""
        return PlainOutput()

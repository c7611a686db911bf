"""How a long-running agent is started: a program that takes its tasks and messages over the sidecar's socket."""

from __future__ import annotations

from pathlib import Path

from agent_sidecar.drivers.command import SHELL, checked_argument, with_search_path
from agent_sidecar.drivers.driver import Capabilities, Command, OutputParser, TaskOrder
from agent_sidecar.drivers.plain_output import PlainOutput
from claude_conductor.errors import InvalidArgumentError


class GrpcAgentDriver:
    """Starts one program that serves many tasks; it finds its socket as `/run/conductor/agent.sock`.

    Args:
        program: Argument vector from the settings, used where an order names no command of its own.
        toolchains: Host folders it may use, at their own path.
        search_path: Folders put behind the system's on PATH.
    """

    name = "grpc_agent"

    def __init__(
        self, program: tuple[str, ...] = (), toolchains: tuple[Path, ...] = (), search_path: tuple[Path, ...] = ()
    ) -> None:
        self._program = program
        self._toolchains = toolchains
        self._environment = with_search_path(search_path)

    @property
    def capabilities(self) -> Capabilities:
        """One process for many tasks."""
        return Capabilities(long_running=True)

    def command(self, order: TaskOrder) -> Command:
        """Return how the program is started. The prompt is not part of it: tasks arrive over the socket.

        Raises:
            InvalidArgumentError: Neither the order nor the settings name a program.
        """
        argv = (SHELL, "-c", order.shell_line) if order.shell_line else (order.command or self._program)
        if not argv:
            raise InvalidArgumentError(
                "A `grpc_agent` needs a program, and neither the task nor the settings name one.",
                next_step="give its command, such as `--cmd 'python agent.py'`",
                task_id=order.task_id,
            )
        return Command(
            argv=tuple(checked_argument(argument, field="command") for argument in argv),
            environment={**self._environment, **order.environment},
            toolchains=self._toolchains,
        )

    def parser(self) -> OutputParser:
        """Return a parser that shows the output as it is; a long-running program's output is a log and holds no answer."""
        return PlainOutput(answer_bytes=0)

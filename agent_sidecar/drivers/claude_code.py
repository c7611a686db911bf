"""How Claude Code is found on the host and started for one task, without ever seeing the provider's key."""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent_sidecar.drivers.claude_code_output import ClaudeCodeOutput
from agent_sidecar.drivers.command import LONGEST_ARGUMENT
from agent_sidecar.drivers.driver import Capabilities, Command, OutputParser, TaskOrder
from agent_sidecar.drivers.finder import Finder
from agent_sidecar.drivers.toolchain import outermost
from claude_conductor.errors import InvalidArgumentError, MissingProgramError

GATEWAY_PORT = 8787
"""Loopback port inside the sandbox; each sandbox has a network of its own, so it is always free."""
GATEWAY_SOCKET = "model.sock"
PLACEHOLDER_KEY = "held-by-the-sidecar"
"""Claude Code does not start without a key; the gateway puts the real one in its place."""

MCP_SERVER = "conductor"
"""Name of the server: its tools are `mcp__conductor__send_message` and so on."""

_SCOPE = "@anthropic-ai"
_PACKAGE = "claude-code"
_PROCESSORS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
_OURS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_UNIX_SOCKET")
_ADVICE = (
    "install it with `npm install -g @anthropic-ai/claude-code` (in a checkout: `tools/install_claude_code.sh`), "
    "or name the path of the program in the settings"
)


class ClaudeCodeDriver:
    """Starts Claude Code in print mode, once per task; it reaches its provider only through the model gateway.

    Args:
        finder: Looks the program up.
        program: Its path from the settings; None looks for `claude` on the search path.
        port: Loopback port inside the sandbox that leads to the gateway.
        model: Used where the task names none; empty leaves the choice to Claude Code.
        machine: Processor of the host as in uname(2); chooses the platform package.
        tools: The command on its PATH that serves Conductor's tools over MCP; empty: it is given none.
    """

    name = "claude_code"

    def __init__(
        self,
        finder: Finder,
        *,
        program: Path | None = None,
        port: int = GATEWAY_PORT,
        model: str = "",
        machine: str = "",
        tools: str = "",
    ) -> None:
        self._finder = finder
        self._program = program
        self._port = port
        self._model = model
        self._machine = machine or os.uname().machine
        self._tools = tools

    @property
    def capabilities(self) -> Capabilities:
        """A process per task that talks to a model provider."""
        return Capabilities(needs_gateway=True)

    def command(self, order: TaskOrder) -> Command:
        """Return how Claude Code is started for this task.

        The prompt is the last argument, behind `--`, so that it is never read as an option; one that is longer than an argument
        may be goes to standard input instead.

        Raises:
            MissingProgramError: Claude Code is not installed on this host.
            InvalidArgumentError: The task sets a variable that belongs to the gateway, or the prompt is empty or holds a NUL.
        """
        taken = sorted(set(_OURS) & set(order.environment))
        if taken:
            raise InvalidArgumentError(
                "This variable is set by Conductor: the key stays in the sidecar, which adds it on the way to the provider.",
                next_step="leave it out of the task; `conductor start` takes the key from its own environment or settings",
                variable=taken[0],
            )
        if not order.prompt.strip() or "\0" in order.prompt:
            raise InvalidArgumentError("A `claude_code` task needs a prompt, without NUL characters.", task_id=order.task_id)
        program = find_claude_code(self._finder, self._program, self._machine)
        prompt = order.prompt.encode("utf-8", "replace")
        by_argument = len(prompt) <= LONGEST_ARGUMENT
        return Command(
            argv=(str(program), *self._options(order), *(("--", order.prompt) if by_argument else ())),
            environment={**order.environment, **self._environment()},
            stdin=b"" if by_argument else prompt,
            toolchains=outermost([program.parent]),
            bridges={self._port: GATEWAY_SOCKET},
        )

    def parser(self) -> OutputParser:
        """Return a parser for the stream-json output."""
        return ClaudeCodeOutput()

    def _options(self, order: TaskOrder) -> tuple[str, ...]:
        """Return the options: permissions are skipped because the sandbox is the boundary."""
        model = order.model or self._model
        return (
            "-p",
            *("--output-format", "stream-json"),
            "--verbose",
            "--dangerously-skip-permissions",
            *(("--mcp-config", mcp_config(self._tools), "--strict-mcp-config") if self._tools else ()),
            *(("--max-turns", str(order.max_turns)) if order.max_turns > 0 else ()),
            *(("--model", model) if model else ()),
        )

    def _environment(self) -> dict[str, str]:
        return {
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{self._port}",
            "ANTHROPIC_API_KEY": PLACEHOLDER_KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }


def mcp_config(program: str) -> str:
    """Return the configuration that gives Claude Code our tools; as text, for a file could be changed by the agent."""
    # The client expands ${...}; at the minimal level the socket is where the variable says.
    # Without `alwaysLoad` the first turn does not wait for the server, and later ones find its tools only by a search.
    server = {"command": program, "args": ["mcp"], "env": {"CONDUCTOR_SOCKET": "${CONDUCTOR_SOCKET}"}, "alwaysLoad": True}
    return json.dumps({"mcpServers": {MCP_SERVER: server}})


def find_claude_code(finder: Finder, program: Path | None, machine: str) -> Path:
    """Return the native program of Claude Code, resolved.

    npm installs a small launcher as `claude`, and where install scripts do not run only that; the native program lies in the
    platform package next to it and is started directly.

    Args:
        finder: Looks at paths.
        program: The path the settings name; None looks for `claude` on the search path.
        machine: Processor as in uname(2), such as `x86_64`.

    Raises:
        MissingProgramError: Nothing usable is there; says what was looked at.
    """
    found = program if program is not None else finder.which("claude")
    if found is None:
        raise MissingProgramError("Claude Code is not installed: `claude` is not on PATH.", next_step=_ADVICE)
    if not finder.is_program(found):
        raise MissingProgramError(
            "The settings name a program for Claude Code that cannot be run.", next_step=_ADVICE, path=found
        )
    real = finder.resolve(found)
    for candidate in (*_platform_programs(real, machine), real):
        if finder.is_native(candidate):
            return finder.resolve(candidate)
    raise MissingProgramError(
        "Claude Code's launcher is there, but its native program for this machine is not.",
        next_step=f"install it again without --omit=optional; {_ADVICE}",
        path=found,
        machine=machine,
    )


def _platform_programs(real: Path, machine: str) -> list[Path]:
    """Return where npm may have put the native program that belongs to a launcher, most likely first."""
    processor = _PROCESSORS.get(machine.lower())
    scope = next((parent for parent in real.parents if parent.name == _SCOPE), None)
    if processor is None or scope is None:
        return []
    packages = [f"{_PACKAGE}-linux-{processor}{libc}" for libc in ("", "-musl")]
    nested = scope / _PACKAGE / "node_modules" / _SCOPE
    return [folder / package / "claude" for package in packages for folder in (scope, nested)]

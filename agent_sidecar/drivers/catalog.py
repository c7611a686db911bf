"""Which kinds of agent there are: to add one, write its driver and add one line to `build`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.drivers.claude_code import GATEWAY_PORT, ClaudeCodeDriver
from agent_sidecar.drivers.command import CommandDriver
from agent_sidecar.drivers.driver import AgentDriver
from agent_sidecar.drivers.finder import Finder
from agent_sidecar.drivers.grpc_agent import GrpcAgentDriver
from agent_sidecar.drivers.scripted import ScriptedDriver
from agent_sidecar.drivers.toolchain import Toolchain
from claude_conductor.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """What the settings say about agents, resolved."""

    toolchains: tuple[Path, ...] = ()
    """Host folders that `command` and `grpc_agent` programs may use, at their own path."""
    search_path: tuple[Path, ...] = ()
    """Folders put behind the system's on their PATH."""
    grpc_program: tuple[str, ...] = ()
    """Argument vector of the long-running agent, where an order names none."""
    claude_program: Path | None = None
    """None: look for `claude` on PATH."""
    claude_model: str = ""
    gateway_port: int = GATEWAY_PORT
    tools_program: str = ""
    """The command on every agent's PATH that serves Conductor's tools over MCP; empty: Claude Code is given none."""


def build(settings: DriverSettings, finder: Finder, python: Toolchain) -> dict[str, AgentDriver]:
    """Return every driver by its name."""
    drivers: tuple[AgentDriver, ...] = (
        CommandDriver(settings.toolchains, settings.search_path),
        ClaudeCodeDriver(
            finder,
            program=settings.claude_program,
            port=settings.gateway_port,
            model=settings.claude_model,
            tools=settings.tools_program,
        ),
        GrpcAgentDriver(settings.grpc_program, settings.toolchains, settings.search_path),
        ScriptedDriver(python),
    )
    return {driver.name: driver for driver in drivers}


def find(drivers: Mapping[str, AgentDriver], name: str) -> AgentDriver:
    """Return the driver of this name; `-` and `_` are the same.

    Raises:
        InvalidArgumentError: There is none; names the nearest one.
    """
    plain = name.strip().lower().replace("-", "_")
    if plain in drivers:
        return drivers[plain]
    import difflib  # noqa: PLC0415 - for this mistake only: 0.2 MB

    nearest = difflib.get_close_matches(plain, drivers, n=1)
    meant = f"did you mean `{nearest[0]}`? " if nearest else ""
    raise InvalidArgumentError(
        "There is no such kind of agent.", next_step=f"{meant}there are: {', '.join(sorted(drivers))}", agent=name
    )

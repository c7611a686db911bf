"""`conductor start`: everything of this home runs and is ready when it returns."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from claude_conductor.cli import commands, local_set
from claude_conductor.cli.in_use import ConfigOption, read_resolved
from claude_conductor.cli.output import say
from claude_conductor.cli.request import from_flag
from claude_conductor.units import parse_duration

app = commands.app("Start control plane and agents on this machine; returns when they are ready.")


@app.command()
def start(
    agents: Annotated[int | None, typer.Option("--agents", help="How many agents; overrides num_agents.")] = None,
    level: Annotated[str, typer.Option("--level", help="Isolation: strict, moderate or minimal. Never lowered by itself.")] = "",
    store: Annotated[
        str,
        typer.Option(
            "--store", help="Where tasks and messages live: sqlite, memory, redis://HOST, rediss://HOST or unix:///SOCKET."
        ),
    ] = "",
    config: ConfigOption = None,
    wait_timeout: Annotated[str, typer.Option("--wait-timeout", help="How long it may take to become ready.")] = "15s",
) -> None:
    """Start control plane and agents on this machine; returns when they are ready."""
    wait = from_flag("--wait-timeout", wait_timeout or "0", parse_duration)
    in_use = read_resolved(config, flags(agents, level, store))
    started = local_set.start(in_use, wait=wait)
    say(summary(started, in_use.resolved.levels))
    say('  next: `conductor run "..." --repo .`, `conductor status`, `conductor stop`')


def flags(agents: int | None, level: str, store: str = "") -> dict[str, tuple[Any, str]]:
    """Return the settings that were said on the command line."""
    said: dict[str, tuple[Any, str]] = {}
    if agents is not None:
        said["num_agents"] = (agents, "--agents")
    if level:
        said["agent.workspace_isolation"] = (level, "--level")
    if store:
        said["store"] = (store, "--store")
    return said


def summary(started: local_set.Started, levels: frozenset[str]) -> str:
    """Return one line about a set that is ready."""
    count = len(started.agents)
    names = ", ".join(started.agents[:4]) + (", ..." if count > 4 else "")
    return (
        f"Conductor runs (supervisor pid {started.pid}): control plane and {count} agent{'s' if count != 1 else ''} "
        f"({names}) at {'/'.join(sorted(levels))}, ready after {started.seconds:.1f} s"
    )

"""Which settings are in use here, given what was said on the command line?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from claude_conductor.cli import complaint
from claude_conductor.settings import place
from claude_conductor.settings.home import Home, find
from claude_conductor.settings.load import Loaded, Sources, load, read_file
from claude_conductor.settings.resolve import Resolved, resolve

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="CONDUCTOR_CONFIG", metavar="FILE", help="Settings file instead of CONDUCTOR_HOME/config/config.yaml."
    ),
]


@dataclass(frozen=True, slots=True)
class InUse:
    """Settings, and what they mean here."""

    home: Home
    loaded: Loaded
    resolved: Resolved


def read(config: Path | None, flags: Mapping[str, tuple[Any, str]] | None = None) -> Loaded:
    """Load the settings in use and write their warnings.

    Args:
        config: The file that was asked for; None: the home's, if it exists.
        flags: Dotted key -> value and flag.

    Raises:
        SettingsError: A source says something that cannot be used.
    """
    home = find(os.environ)
    context = place.current(home, os.environ)
    sources = Sources(
        file=read_file(config or home.config, required=config is not None),
        environment=os.environ,
        context_name=context.name,
        context=context.settings or {},
        flags=flags or {},
    )
    loaded = load(sources)
    for warning in loaded.warnings:
        complaint.warn(warning)
    return loaded


def read_resolved(config: Path | None, flags: Mapping[str, tuple[Any, str]] | None = None) -> InUse:
    """Load the settings in use and give them their meaning.

    Raises:
        SettingsError: As `read`, or values exclude each other.
    """
    home = find(os.environ)
    loaded = read(config, flags)
    return InUse(home, loaded, resolve(loaded, home, os.environ))

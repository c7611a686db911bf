"""`conductor stop`: nothing of this home's set is left when it returns."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from claude_conductor.cli import commands, complaint
from claude_conductor.cli.output import say
from claude_conductor.cli.request import from_flag
from claude_conductor.settings.home import find
from claude_conductor.supervisor import control
from claude_conductor.units import parse_duration

app = commands.app("Stop control plane and agents of this home.")


@app.command()
def stop(
    timeout: Annotated[
        str, typer.Option("--timeout", help="How long the orderly way may take; after that they are killed.")
    ] = "30s",
) -> None:
    """Stop control plane and agents of this home; their tasks go on at the next start."""
    began = time.monotonic()
    stopped = control.stop(str(find(os.environ).path), from_flag("--timeout", timeout or "0", parse_duration))
    say(f"Conductor stopped after {time.monotonic() - began:.1f} s; nothing of it is left")
    if stopped.killed:
        complaint.warn(f"these did not end by themselves and were killed: {', '.join(stopped.killed)}")

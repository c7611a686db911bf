"""How is an error told to a person? What happened, why, and what to do next, on standard error."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from claude_conductor.errors import ConductorError


def show(error: ConductorError, stream: TextIO | None = None) -> None:
    """Write the error in up to three parts."""
    tell(
        error.message,
        ", ".join(f"{name}: {value}" for name, value in error.details.items() if str(value)),
        error.next_step,
        stream,
    )


def tell(what: str, why: str = "", next_step: str = "", stream: TextIO | None = None) -> None:
    """Write what happened, why, and what to do next."""
    stream = stream or sys.stderr
    stream.write(f"{paint('error:', '31', stream)} {what}\n")
    if why:
        stream.write(f"  why:  {why}\n")
    if next_step:
        stream.write(f"  next: {next_step}\n")


def warn(text: str, stream: TextIO | None = None) -> None:
    """Write a warning."""
    stream = stream or sys.stderr
    stream.write(f"{paint('warning:', '33', stream)} {text}\n")


def note(text: str, stream: TextIO | None = None) -> None:
    """Write a line about what is going on, apart from the result on standard output."""
    (stream or sys.stderr).write(f"{text}\n")


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Colour a word on a terminal, unless NO_COLOR asks not to (no-color.org)."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"

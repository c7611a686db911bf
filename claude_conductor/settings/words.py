"""Which words name kinds of agents and levels of isolation? Kept apart from the schema, which is slow to import."""

from __future__ import annotations

from typing import Final

DRIVERS: Final = ("command", "claude_code", "grpc_agent", "scripted")
LEVELS: Final = ("strict", "moderate", "minimal")


def driver(text: str) -> str:
    """Return a kind of agent as settings and tasks name it: `Claude-Code` is `claude_code`."""
    return text.strip().lower().replace("-", "_")


def task_type(text: str) -> str:
    """Return a type of tasks as it is stored: `Code-Review` is `code_review`."""
    return text.strip().lower().replace("-", "_")

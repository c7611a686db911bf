"""The atomic steps: Lua scripts, each with what it shares with others before it, known to the server by their hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("lua")
_SHARED: Final = {
    "tasks": ("insert_tasks", "save_task", "remove_tasks", "heads", "bodies", "ahead"),
    "mail": (
        *("accept", "read", "take", "apply", "find", "list", "forget", "advance"),
        *("publish", "copy", "publications", "retire", "owed", "told"),
    ),
    "schedules": ("insert_schedule", "save_schedule", "remove_schedule", "find_schedules"),
    "": (
        "append_events",
        "append_audit",
        "bounds",
        "subscribe",
        "unsubscribe",
        "own",
        "add_token",
        "swap_tokens",
        "forget_tokens",
    ),
}
"""Name of what goes before -> names of the scripts."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the hash it is called by (https://redis.io/docs/latest/commands/evalsha/)."""

    name: str
    text: bytes
    sha: str


def load() -> dict[str, Script]:
    """Read every script of this package."""
    return {name: _script(shared, name) for shared, names in _SHARED.items() for name in names}


def _script(shared: str, name: str) -> Script:
    text = (_FOLDER / f"{name}.lua").read_bytes()
    if shared:
        text = (_FOLDER / f"shared_{shared}.lua").read_bytes() + text
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())

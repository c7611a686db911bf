"""What an error of SQLite means to whoever called the store."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from claude_conductor.errors import StoreUnavailableError

_MEANINGS = {
    "SQLITE_FULL": ("The disk of the database is full; nothing was stored.", "free space there; then repeat with the same key"),
    "SQLITE_READONLY": (
        "The database cannot be written; nothing was stored.",
        "make the file and its folder writable for the control plane's user; then repeat with the same key",
    ),
    "SQLITE_BUSY": (
        "Another program holds the database locked; nothing was stored.",
        "end that program (sqlite3, a backup?); then repeat with the same key",
    ),
    "SQLITE_CORRUPT": (
        "The database is damaged.",
        "stop Conductor, move the file away or put a backup in its place, and start it again",
    ),
    "SQLITE_NOTADB": ("The file is no SQLite database, or is damaged.", "move it away or put a backup in its place"),
    "SQLITE_CANTOPEN": (
        "The database cannot be opened.",
        "make the file and its folder readable and writable for the control plane's user",
    ),
    "SQLITE_IOERR": (
        "The disk of the database failed; nothing was stored.",
        "look at the kernel's log (dmesg) and the space on that disk",
    ),
}


def unavailable(cause: sqlite3.Error, path: Path) -> StoreUnavailableError:
    """Return what to raise from `cause`."""
    name = getattr(cause, "sqlite_errorname", "") or ""
    for code, (message, next_step) in _MEANINGS.items():
        if name.startswith(code):
            return StoreUnavailableError(message, next_step=next_step, path=path, code=name)
    return StoreUnavailableError(f"The database refused: {cause}.", path=path, code=name)

"""How text of an agent is cut to what a report may hold."""

from __future__ import annotations

from typing import Final

PROGRESS_BYTES: Final = 1024


def one_line(text: str) -> str:
    """Return the text as one line of at most 1 KiB."""
    return cut(" ".join(text.split()), PROGRESS_BYTES)


def cut(text: str, size: int) -> str:
    """Return the text cut to `size` bytes of UTF-8, between two characters."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= size else raw[:size].decode("utf-8", "ignore")

"""How does the command show plain values? In lines; what others wrote is indented, so that it cannot pass as ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from claude_conductor.agent_tools.described import Plain

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\n\t"}
_HEAD: Final = ("from", "type", "id", "reply_to", "subject", "attempt", "content_type", "addressed_to")


def message(said: Plain) -> str:
    """Return a message: a line about it, then what it says."""
    facts = "  ".join(f"{name} {printable(said[name], one_line=True)}" for name in _HEAD if name in said)
    body = str(said.get("text", f"(base64) {said.get('data_base64', '')}"))
    lines = "\n".join(f"  {line}" for line in printable(body).splitlines())
    return f"[{said.get('position', '-')}] {facts}\n{lines}"


def facts(known: Plain) -> str:
    """Return one fact per line."""
    width = max(map(len, known), default=0)
    return "\n".join(f"{name:<{width}}  {printable(_joined(value), one_line=True)}" for name, value in known.items())


def agents(found: Sequence[Plain]) -> str:
    """Return a table of agents."""
    head = ("AGENT", "STATE", "MAILBOX", "KINDS")
    rows = [
        (
            f"{each['agent_id']}{' (you)' if each.get('you') else ''}",
            each.get("state", ""),
            each.get("mailbox", "-"),
            each.get("kinds"),
        )
        for each in found
    ]
    table = [head, *(tuple(printable(_joined(cell), one_line=True) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)


def printable(text: object, *, one_line: bool = False) -> str:
    """Return text that cannot steer a terminal."""
    plain = str(text).translate(_CONTROLS)
    return " ".join(plain.split()) if one_line else plain


def _joined(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {each}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

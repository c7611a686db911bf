"""How a value from a program that is not trusted is read out of JSON: the wrong shape gives nothing, never an error."""

from __future__ import annotations

import json
import math
from typing import cast

Json = dict[str, object]

LARGEST_COUNT = 1 << 53
"""Exact in int64 and in a double."""


def parse_object(line: bytes) -> Json | None:
    """Return the JSON object in a line; None for anything else, however malformed or deeply nested."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("Json", value) if isinstance(value, dict) else None


def as_object(value: object) -> Json:
    """Return the object, or an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Json]:
    """Return the objects of a list, or none."""
    return [as_object(entry) for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return the text with lone surrogates replaced, or an empty one."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def as_count(value: object) -> int:
    """Return a whole number from 0 to `LARGEST_COUNT`, or 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value <= LARGEST_COUNT else 0


def as_amount(value: object) -> float:
    """Return a finite number of 0 or more, or 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if abs(value) <= LARGEST_COUNT and math.isfinite(value) and value >= 0 else 0.0


def one_line(text: str, limit: int = 160) -> str:
    """Return the first line that is not blank, without characters that would act on a terminal, cut with an ellipsis."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    plain = "".join(character if character.isprintable() else " " for character in first[: limit * 2])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"

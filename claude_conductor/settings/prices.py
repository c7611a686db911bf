"""What do models cost? A table of the package, and over it one of the user: data, so that a new price needs no new version."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from claude_conductor.errors import SettingsError
from claude_conductor.settings import yaml_file

NAME: Final = "prices.yaml"
PARTS: Final = ("input", "output", "cache_read", "cache_write")
_EXAMPLE: Final = "models: {my-model: {input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}}"


@dataclass(frozen=True, slots=True)
class Entry:
    """The price of one model, in US dollars for a million tokens of each of `PARTS`, and the file it is from."""

    price: Mapping[str, float]
    source: str


def table(own: Path | None) -> dict[str, Entry]:
    """Return the prices that hold, by name of the model; a name that ends in `*` holds for all that begin like it.

    Args:
        own: The user's file, whose entries take the place of built-in ones; None: there is none.

    Raises:
        SettingsError: The user's file cannot be read, or says something else than prices.
    """
    built_in = resources.files("claude_conductor.settings") / NAME
    found = _read(yaml_file.parse(built_in.read_bytes(), "built in", "prices"))
    if own is not None:
        found |= _read(yaml_file.read(own, "prices"))
    return found


def _read(text: yaml_file.Text) -> dict[str, Entry]:
    models = text.values.get("models", {})
    if set(text.values) - {"models"} or not isinstance(models, dict):
        raise SettingsError("A file of prices has one key, `models`.", next_step=f"write {_EXAMPLE}", file=text.source)
    return {str(name): Entry(_price(text, str(name), parts), text.source) for name, parts in models.items()}


def _price(text: yaml_file.Text, name: str, parts: Any) -> dict[str, float]:  # noqa: ANN401 - whatever YAML can hold
    line = text.lines.get(("models", name), 1)
    if not isinstance(parts, dict) or set(parts) != set(PARTS):
        raise SettingsError(
            f"The price of `{name}` has four numbers: {', '.join(PARTS)}.",
            next_step=f"write {_EXAMPLE}",
            file=text.source,
            line=line,
        )
    if name.count("*") > name.endswith("*"):
        raise SettingsError("A `*` is the last character of a model's name.", file=text.source, line=line, model=name)
    for part, value in parts.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            raise SettingsError(
                f"`{part}` of `{name}` is a price in US dollars, 0 or more.", file=text.source, line=line, value=value
            )
    return {part: float(parts[part]) for part in PARTS}

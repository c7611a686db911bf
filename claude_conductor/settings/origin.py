"""Where does a value come from, and which of several counts?"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str | int, ...]


class Rank(enum.IntEnum):
    """Sources of values; a higher one wins."""

    DEFAULT = 0
    FILE = 1
    CONTEXT = 2
    ENVIRONMENT = 3
    FLAG = 4


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one value comes from."""

    rank: Rank
    where: str = ""
    """File and line, name of the variable, context or flag."""

    def __str__(self) -> str:
        return f"{self.rank.name.lower()} {self.where}".strip()


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says."""

    rank: Rank
    values: Mapping[str, Any]
    places: Mapping[Place, str] = field(default_factory=dict)
    """Place -> where, for messages."""

    def origin(self, place: Place) -> Origin:
        """Return the origin of a place; of the nearest one around it where it has none of its own."""
        for length in range(len(place), -1, -1):
            if place[:length] in self.places:
                return Origin(self.rank, self.places[place[:length]])
        return Origin(self.rank)


def merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[Place, Origin]]:
    """Lay the layers over each other, the highest rank on top: blocks are merged, everything else is replaced as a whole.

    Returns:
        The values, and the origin of every place that has one.
    """
    values: dict[str, Any] = {}
    origins: dict[Place, Origin] = {}
    for layer in sorted(layers, key=lambda layer: layer.rank):
        _lay(values, layer.values, (), layer, origins)
    return values, origins


def _lay(below: dict[str, Any], above: Mapping[str, Any], place: Place, layer: Layer, origins: dict[Place, Origin]) -> None:
    for name, value in above.items():
        inner = (*place, name)
        origins[inner] = layer.origin(inner)
        if isinstance(value, Mapping):
            if not isinstance(below.get(name), dict):
                below[name] = {}
            _lay(below[name], value, inner, layer, origins)
        else:
            below[name] = value
            for stale in [known for known in origins if known[: len(inner)] == inner and known != inner]:
                del origins[stale]
            _mark_entries(value, inner, layer, origins)


def _mark_entries(value: object, place: Place, layer: Layer, origins: dict[Place, Origin]) -> None:
    entries: list[tuple[str | int, object]] = []
    if isinstance(value, list | tuple):
        entries = list(enumerate(value))
    elif isinstance(value, Mapping):
        entries = list(value.items())
    for name, entry in entries:
        origins[(*place, name)] = layer.origin((*place, name))
        _mark_entries(entry, (*place, name), layer, origins)

"""What counts and times are kept in: plain numbers, cheap enough for the hot path, read by whoever exports them.

No library is behind them, so a program whose metrics nobody reads loads none. They belong to one event loop; the store's threads
report through it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

SERIES: Final = 500
"""Label sets of one metric; what comes after them is counted under `OTHER`, so that nobody's names fill the memory."""
OTHER: Final = "other"

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a number means. Names and units are those of Prometheus: base units, `_total` for what only grows."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, ascending; the last, infinity, goes without saying."""


class Counter:
    """A number that only grows, per label set."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._values: dict[Labels, float] = {}

    def add(self, amount: float, *labels: str) -> None:
        """Add to the number of these labels, given in the metric's order."""
        key = _bounded(self._values, labels)
        self._values[key] = self._values.get(key, 0.0) + amount

    def read(self) -> Iterator[tuple[Labels, float]]:
        """Return every label set with its number."""
        return iter(tuple(self._values.items()))


class Histogram:
    """How often a value was how large, per label set."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._values: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count one value under these labels; one below 0 (a clock that was set back) counts as 0."""
        key = _bounded(self._values, labels)
        series = self._values.get(key)
        if series is None:
            series = self._values[key] = [0] * (len(self.metric.buckets) + 1), [0.0]
        counts, total = series
        value = max(0.0, value)
        counts[bisect_left(self.metric.buckets, value)] += 1
        total[0] += value

    def read(self) -> Iterator[tuple[Labels, list[int], float]]:
        """Return every label set with its counts (one a bucket, not summed up) and the sum of its values."""
        for key, (counts, total) in tuple(self._values.items()):
            yield key, list(counts), total[0]


def _bounded(
    known: dict[Labels, object] | dict[Labels, float] | dict[Labels, tuple[list[int], list[float]]], key: Labels
) -> Labels:
    return key if key in known or len(known) < SERIES else (OTHER,) * len(key)

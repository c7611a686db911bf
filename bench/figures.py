"""What a measurement is, and how it is shown: as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number with its spread over the rounds, or over the samples of one round."""

    bench: str
    what: str
    unit: str
    median: float
    low: float
    high: float
    goal: str = ""
    """What the design asks for, in words; empty where it asks for nothing."""
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the design's table of goals (docs/design/performance.md)."""

    what: str
    must: str
    goal: str
    measured: str
    verdict: str


def of_rounds(bench: str, what: str, unit: str, values: Sequence[float], goal: str = "", **facts: object) -> Figure:
    """Return the figure of one value a round."""
    named = {name: str(fact) for name, fact in facts.items()}
    return Figure(bench, what, unit, statistics.median(values), min(values), max(values), goal, named)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the values are at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def of_samples(bench: str, what: str, unit: str, values: Sequence[float], goal: str = "", **facts: object) -> list[Figure]:
    """Return the p50 and p99 of many samples; `low` and `high` are the smallest and largest sample."""
    named = {"samples": str(len(values)), **{name: str(fact) for name, fact in facts.items()}}
    ends = (min(values), max(values))
    return [
        Figure(bench, f"{what} p50", unit, percentile(values, 0.5), *ends, goal, named),
        Figure(bench, f"{what} p99", unit, percentile(values, 0.99), *ends, "", named),
    ]


def machine() -> dict[str, str]:
    """Return what the numbers depend on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        "?",
    )
    return {
        "processor": model,
        "processors": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("grpcio", "protobuf", "uvloop")},
    }


def number(value: float) -> str:
    """Return a number with three digits that say something."""
    return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


def show(figures: Sequence[Figure]) -> None:
    """Print a table, with the facts that differ from line to line behind it."""
    rows: list[tuple[str, ...]] = [("bench", "what", "median", "min", "max", "unit", "goal", "")]
    rows += [
        (
            *(f.bench, f.what, *(number(x) for x in (f.median, f.low, f.high)), f.unit, f.goal),
            ", ".join(f"{name} {fact}" for name, fact in f.facts.items()),
        )
        for f in figures
    ]
    _print(rows, right={2, 3, 4})


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print the table of goals."""
    rows = [("what", "must", "goal", "measured", "verdict")]
    rows += [(v.what, v.must, v.goal, v.measured, v.verdict) for v in verdicts]
    _print(rows, right=set())


def _print(rows: Sequence[tuple[str, ...]], right: set[int]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def save(facts: Mapping[str, str], figures: Sequence[Figure], verdicts: Sequence[Verdict], path: Path) -> None:
    """Write what the numbers depend on, figures and verdicts as JSON."""
    everything = {
        "machine": facts,
        "figures": [asdict(figure) for figure in figures],
        "goals": [asdict(verdict) for verdict in verdicts],
    }
    path.write_text(json.dumps(everything, indent=2) + "\n")

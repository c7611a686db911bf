"""The relay: how many messages a second, at which cost, how quickly there and back, beside other systems in the same run."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from bench.ends.parts import LONGEST
from bench.figures import Figure, of_rounds, percentile
from bench.processes import End, RunFailedError, cpu_seconds
from bench.systems import ECHO, TREE, System

ROUND_TRIPS = 500
PACED_SECONDS = 4.0
PARTS = {"flood": ("flood", "sink"), "round trip": ("ping", "pong"), "paced": ("pace", "hear")}
"""Which parts the two processes of a measurement play, by its kind."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing that is measured on every system."""

    kind: str
    size: int
    """Bytes of a payload."""
    pairs: int
    rate: float = 0.0
    """Messages a second of all pairs together, if paced."""

    def __str__(self) -> str:
        paced = f", {self.rate:g} msg/s" if self.rate else ""
        return f"{self.kind} {self.size} B, {self.pairs} pair{'s' if self.pairs > 1 else ''}{paced}"

    def count(self, system: System) -> int:
        """Return how many messages each pair sends; 0 if that would be less than one."""
        messages, size = system.most
        if self.kind == "round trip":
            return max(20, min(ROUND_TRIPS, size // self.size))
        if self.kind == "paced":
            return int(self.rate * PACED_SECONDS / self.pairs)
        return min(messages, size // self.size) // self.pairs


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement gave."""

    messages: int
    """Round trips, for that kind."""
    seconds: float
    """From the first message being sent to the last one being received."""
    broker_seconds: float
    """Processor time of the broker."""
    times: tuple[float, ...]
    """Seconds of each round trip, or of each message from send to receive."""
    ends_seconds: float = 0.0
    """Processor time of who received, where that is measured."""

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def cpu(self) -> float:
        """Processor microseconds of the broker per message."""
        return self.broker_seconds / self.messages * 1e6

    @property
    def p50(self) -> float:
        """Median time in milliseconds."""
        return percentile(self.times, 0.5) * 1e3


Results = dict[tuple[str, Cell], list[Sample]]
"""By the system's name; the samples in the order of the rounds."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be measured."""

    cells: Sequence[Cell]
    systems: Sequence[System]
    rounds: int


def cells(sizes: Sequence[int], pairs: Sequence[int], rate: float, paced_pairs: Sequence[int]) -> list[Cell]:
    """Return the cells of a run: floods of each size and number of pairs, round trips of each size, paced ones of the first."""
    return [
        *(Cell("flood", size, number) for size in sizes for number in pairs),
        *(Cell("round trip", size, 1) for size in sizes),
        *(Cell("paced", sizes[0], number, rate) for number in paced_pairs if rate),
    ]


def measure(wish: Wish) -> Results:
    """Measure every cell on every system, interleaved round by round."""
    results: Results = {}
    failed: set[tuple[str, Cell]] = set()
    for turn in range(wish.rounds):
        for cell in wish.cells:
            for system in _who_runs(cell, wish.systems):
                key = (system.name, cell)
                if key in failed:
                    continue
                try:
                    results.setdefault(key, []).append(_sample_or_again(system, cell))
                except RunFailedError as error:
                    failed.add(key)
                    print(f"{cell}: {system.name}: no result: {error}", file=sys.stderr)
        print(f"round {turn + 1} of {wish.rounds} is done", file=sys.stderr)
    return {key: found for key, found in results.items() if found and key not in failed}


def _who_runs(cell: Cell, systems: Sequence[System]) -> list[System]:
    return [system for system in systems if (system is not ECHO or cell.kind == "round trip") and cell.count(system)]


def _sample_or_again(system: System, cell: Cell) -> Sample:
    try:
        return sample(system, cell)
    except RunFailedError as error:  # on a busy machine a stream may end for a ping that came too late
        print(f"{cell}: {system.name}: once more: {error}", file=sys.stderr)
        return sample(system, cell)


def sample(system: System, cell: Cell) -> Sample:
    """Measure one cell on one system once.

    Raises:
        RunFailedError: A process failed, or took too long.
    """
    count = cell.count(system)
    with tempfile.TemporaryDirectory(prefix="cb") as place, ExitStack() as stack:
        broker = stack.enter_context(system.start(Path(place), cell.pairs))
        begins, answers = (_command(system, part, broker.address, cell, count) for part in PARTS[cell.kind])
        other = stack.enter_context(End(answers, TREE, system.environment)) if system.answers else None
        if other is not None:
            other.ready()
        sender = stack.enter_context(End(begins, TREE, system.environment))
        sender.ready()
        before = cpu_seconds(broker.pid)
        for end in filter(None, (other, sender)):
            end.begin()
        sent = json.loads(sender.line(LONGEST + 10))
        received = json.loads(other.line(LONGEST + 10)) if other is not None else sent
        used = cpu_seconds(broker.pid) - before
        times = (received if cell.kind == "paced" else sent)["times"]
        for end in filter(None, (other, sender)):
            end.begin()  # it may go
        return Sample(count * cell.pairs, received["ended"] - sent["began"], used, tuple(times))


def _command(system: System, part: str, address: str, cell: Cell, count: int) -> list[str]:
    options = {
        "address": address,
        "pairs": cell.pairs,
        "size": cell.size,
        "count": count,
        "rate": cell.rate or 1.0,
        "quality": system.quality,
    }
    return [system.python, "-m", system.ends, part, *(f"--{name}={value}" for name, value in options.items())]


def ratios(results: Results, cell: Cell, ours: str, theirs: str, value: Callable[[Sample], float]) -> list[float]:
    """Return ours / theirs of each round that has both."""
    pairs = zip(results.get((ours, cell), []), results.get((theirs, cell), []), strict=False)
    return [value(mine) / value(other) for mine, other in pairs if value(other)]


def echo_spread(results: Results, cell: Cell) -> float:
    """Return the largest of the rounds' echo medians over the smallest: how unsteady this machine was during the run."""
    medians = [each.p50 for each in results.get((ECHO.name, cell), [])]
    return max(medians) / min(medians) if medians else float("inf")


def figures(results: Results, systems: Sequence[System]) -> list[Figure]:
    """Return what was measured, cell by cell, with the ratio of ours to each peer's."""
    found = []
    qualities = {system.name: system.quality for system in systems}
    ours = {"ephemeral": "ephemeral memory", "durable": "durable sqlite"}
    for name, cell in sorted(results, key=lambda key: (key[1].kind, key[1].size, key[1].pairs)):
        of_cell = results[name, cell]
        value, unit = (attrgetter("rate"), "msg/s") if cell.kind == "flood" else (attrgetter("p50"), "ms p50")
        compared = ratios(results, cell, ours[qualities[name]], name, value)
        facts = {"CPU us": f"{statistics.median(each.cpu for each in of_cell):.1f}"}
        if compared and name != ours[qualities[name]]:
            costs = ratios(results, cell, ours[qualities[name]], name, attrgetter("cpu"))
            facts["ours / this"] = f"{statistics.median(compared):.2f}"
            facts["in CPU"] = f"{statistics.median(costs):.2f}" if costs else "?"
        found.append(of_rounds("relay", f"{cell}: {name}", unit, [value(each) for each in of_cell], **facts))
    return found

"""The task queue: how soon is a task in somebody's hands, and how many that do nothing a second, beside other queues in one run?

    notified                submit -> in hand: from the submitter's call to the worker having the task, one task in flight
    tasks                   submit -> done, each task submitted by its own call, 32 calls waiting at once
    tasks, batched          the same, submitted as the system submits many at once
    submits                 submit -> the queue says that it has it; nobody works
    submits, batched        the same, submitted as the system submits many at once

Ours works with 32 slots in one process, each with a session of its own, as 32 sidecars have. A task of ours is done when the
control plane has confirmed the report of its end; a peer's is done when its function has run, and nobody asks for its result.
Where a peer has no way to submit many at once, the batched kinds submit as its documentation says for many tasks.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path

import psutil

from bench.ends.parts import LONGEST
from bench.figures import Figure, of_rounds, percentile
from bench.processes import End, RunFailedError
from bench.queues import SLOTS, Queue
from bench.relay import Cell, Results, Sample, ratios
from bench.relay import sample as relay_sample
from bench.systems import ECHO, TREE

NOTIFIED = 300
PARTS = {
    "notified": "one-in-flight",
    "tasks": "one-by-one",
    "tasks, batched": "batched",
    "submits": "only-one-by-one",
    "submits, batched": "only-batched",
}
"""What the submitting process does, by the kind of a measurement."""
YARDSTICK = Cell("round trip", 256, 1)


def cells(kinds: Sequence[str]) -> list[Cell]:
    """Return the cells of a run."""
    return [Cell(kind, 0, 1) for kind in kinds]


def measure(cells: Sequence[Cell], queues: Sequence[Queue], rounds: int, tasks: int = 0) -> Results:
    """Measure every cell on every queue, interleaved round by round, and the echo once a round.

    Args:
        cells: What is measured.
        queues: On what.
        rounds: How often.
        tasks: How many in one measurement; 0: as many as take a few seconds.
    """
    results: Results = {}
    failed: set[tuple[str, Cell]] = set()
    for turn in range(rounds):
        results.setdefault((ECHO.name, YARDSTICK), []).append(relay_sample(ECHO, YARDSTICK))
        for cell in cells:
            for queue in queues:
                key = (queue.name, cell)
                if key in failed:
                    continue
                try:
                    results.setdefault(key, []).append(sample(queue, cell, tasks))
                except RunFailedError as error:
                    failed.add(key)
                    print(f"{cell.kind}: {queue.name}: no result: {error}", file=sys.stderr)
        print(f"round {turn + 1} of {rounds} is done", file=sys.stderr)
    return {key: found for key, found in results.items() if found and key not in failed}


def sample(queue: Queue, cell: Cell, tasks: int = 0) -> Sample:
    """Measure one cell on one queue once.

    Raises:
        RunFailedError: A process failed, or took too long.
    """
    count = tasks or (NOTIFIED if cell.kind == "notified" else queue.most[0])
    with tempfile.TemporaryDirectory(prefix="cb") as place, ExitStack() as stack:
        broker = stack.enter_context(queue.start(Path(place), SLOTS))
        options = {"address": broker.address, "done": str(Path(place) / "done.sock"), "slots": SLOTS, "count": count}
        given = [f"--{name}={value}" for name, value in options.items()]
        start = [queue.python, "-m", queue.ends]
        submitter = stack.enter_context(End([*start, PARTS[cell.kind], *given], TREE, queue.environment))
        submitter.ready()
        pids = [broker.pid]
        with ExitStack() as working:  # who is told ends after who tells
            if not cell.kind.startswith("submits"):
                worker = working.enter_context(End([*start, "work", *given], TREE, queue.environment))
                worker.ready()
                working.callback(_kill, worker.process.pid)
                pids.append(worker.process.pid)
            before = [_cpu(pid) for pid in pids]
            submitter.begin()
            found = json.loads(submitter.line(LONGEST + 10))
            used = [_cpu(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
        submitter.begin()  # it may go
        return Sample(count, found["ended"] - found["began"], used[0], tuple(found["times"]), sum(used[1:]))


def _kill(pid: int) -> None:
    """End a worker and the processes below it at once: some take ten seconds to end, and leave those below them behind."""
    process = psutil.Process(pid)
    for each in (*process.children(recursive=True), process):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def _cpu(pid: int) -> float:
    """Return the processor time of a process and of the processes below it."""
    process = psutil.Process(pid)
    return float(sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True))))


def figures(results: Results, ours: str) -> list[Figure]:
    """Return what was measured, cell by cell, with the ratio of ours to each peer's."""
    found = []
    order = list(PARTS)
    for name, cell in sorted((key for key in results if key[1] != YARDSTICK), key=lambda key: order.index(key[1].kind)):
        of_cell = results[name, cell]
        facts = {
            "broker CPU us": f"{statistics.median(each.cpu for each in of_cell):.0f}",
            "worker CPU us": f"{statistics.median(each.ends_seconds / each.messages * 1e6 for each in of_cell):.0f}",
        }
        timed = cell.kind == "notified"
        value = attrgetter("p50" if timed else "rate")
        compared = ratios(results, cell, ours, name, value)
        if compared and name != ours:
            facts["ours / this"] = f"{statistics.median(compared):.2f}"
        kind = "tasks/s" if not timed else "ms p50"
        found.append(of_rounds("dispatch", f"{cell.kind}: {name}", kind, [value(each) for each in of_cell], **facts))
        if timed:
            p99 = [percentile(each.times, 0.99) * 1e3 for each in of_cell]
            found.append(of_rounds("dispatch", f"{cell.kind}: {name}", "ms p99", p99))
    echo: Mapping[tuple[str, Cell], list[Sample]] = results
    if trips := echo.get((ECHO.name, YARDSTICK)):
        found.append(of_rounds("dispatch", "yardstick: grpcio echo", "ms p50", [each.p50 for each in trips]))
    return found

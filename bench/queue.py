"""What does it cost that many tasks wait: memory, submitting, tasks that come meanwhile, working it off, starting again with it?

The tasks that wait want a label that no agent has at first; what is submitted meanwhile goes to an agent beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from claude_conductor.rpc import process

process.prepare()

from bench.ends.conductor_tasks import noop, open_slot  # noqa: E402 - gRPC reads settings at import
from bench.figures import Figure, of_rounds, percentile  # noqa: E402
from bench.processes import RunFailedError, control_plane, memory, of_ours, token_of  # noqa: E402
from bench.systems import TREE  # noqa: E402
from claude_conductor.client import Conductor  # noqa: E402
from claude_conductor.v1 import task_pb2, task_service_pb2  # noqa: E402

BATCH = 500
PROBES = 100
DRAINED = 1000
SLOTS = 8
LONGEST = 300.0
_LABEL = {"bench": "queue"}


class _Teller:
    """Collects what slots tell, in the process they are in."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.ended = 0.0
        self.news = asyncio.Event()

    def tell(self, text: str, taken: float, ended: float) -> None:
        """See Teller of `ends.tasks`."""
        self.taken.append(taken - float(text))
        self.ended = ended
        self.news.set()

    async def wait(self, count: int) -> None:
        """Wait until so many were told of."""
        while len(self.taken) < count:
            self.news.clear()
            await self.news.wait()


def _waiting() -> task_pb2.TaskSpec:
    spec = noop(repr(time.monotonic()))
    spec.required_labels.update(_LABEL)
    return spec


async def fill(address: str, depth: int) -> dict[str, object]:
    """Submit the tasks that wait, then some that do not; return the seconds of the first and of each of the others."""
    async with AsyncExitStack() as stack:
        conductor = await stack.enter_async_context(Conductor.connect(address, token_of("operator")))
        began = time.monotonic()
        for first in range(0, depth, BATCH):
            wanted = [task_service_pb2.TaskSubmission(spec=_waiting()) for _ in range(min(BATCH, depth - first))]
            await conductor.tasks.submit_all(wanted)
        filled = time.monotonic() - began
        teller = _Teller()
        slot = await open_slot("r0", address, teller, stack)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(slot.work(), name="slot")
            for number in range(PROBES):
                await conductor.tasks.submit(noop(repr(time.monotonic())))
                await teller.wait(number + 1)
            working.cancel()
        return {"filled": filled, "times": teller.taken}


async def drain(address: str, count: int) -> dict[str, object]:
    """Work off so many tasks; return the seconds from the first agent that can."""
    async with AsyncExitStack() as stack:
        teller = _Teller()
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            slots = [await open_slot(f"r{number}", address, teller, stack, _LABEL) for number in range(SLOTS)]
            working = [group.create_task(slot.work(), name="slot") for slot in slots]
            await teller.wait(count)
            for each in working:
                each.cancel()
        return {"seconds": teller.ended - began}


async def main(arguments: Sequence[str]) -> None:
    """Play one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["fill", "drain"])
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    given = parser.parse_args(arguments)
    async with asyncio.timeout(LONGEST):
        found = await (fill if given.part == "fill" else drain)(given.address, given.count)
    print(json.dumps(found), flush=True)


def _play(part: str, address: str, count: int) -> dict[str, object]:
    command = [sys.executable, "-m", "bench.queue", part, address, str(count)]
    run = subprocess.run(command, cwd=TREE, env=of_ours(), stdout=-1, text=True, timeout=LONGEST + 30, check=False)
    if run.returncode:
        raise RunFailedError("a part of the benchmark failed; its message is above")
    found: dict[str, object] = json.loads(run.stdout)
    return found


def _at(depth: int) -> list[tuple[str, str, list[float]]]:
    """Return what was measured with so many tasks that wait, each with what it is and its unit."""
    agents = [f"r{number}" for number in range(SLOTS)]
    with tempfile.TemporaryDirectory(prefix="cb") as place:
        address = f"unix:{Path(place) / 'run/control.sock'}"
        with control_plane(Path(place), agents, "sqlite") as server:
            before = memory(server.pid)[0]
            filled = _play("fill", address, depth)
            grown = memory(server.pid)[0] - before
        began = time.monotonic()
        with control_plane(Path(place), agents, "sqlite") as server:
            ready = time.monotonic() - began
            anew = memory(server.pid)[0]
            count = min(depth, DRAINED)
            drained = float(str(_play("drain", address, count)["seconds"])) if count else 0.0
    times = filled["times"]
    assert isinstance(times, list)
    found = [
        ("others notified", "ms p50", [percentile(times, 0.5) * 1e3]),
        ("others notified", "ms p99", [percentile(times, 0.99) * 1e3]),
        ("control plane, memory grown", "MB", [grown]),
        ("restart to ready", "s", [ready]),
        ("control plane after the restart, RSS", "MB", [anew]),
    ]
    if count:
        found.insert(0, ("submitted in batches", "tasks/s", [depth / float(str(filled["filled"]))]))
        found.append((f"worked off by {SLOTS} slots", "tasks/s", [count / drained]))
    return found


def measure(depths: Sequence[int], rounds: int = 1) -> list[Figure]:
    """Measure every depth in every round."""
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for depth in depths:
            for what, unit, values in _at(depth):
                found.setdefault((f"{depth} wait: {what}", unit), []).extend(values)
        print(f"round {number + 1} of {rounds} is done", file=sys.stderr)
    return [of_rounds("queue", what, unit, values) for (what, unit), values in found.items()]


if __name__ == "__main__":
    process.run(main(sys.argv[1:]))

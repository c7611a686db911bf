"""What does a sandbox cost: to start, to stop, fifty at once, at rest; and how exactly do its limits hold?"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_sidecar.isolation.interface import Cause, Exit, Handle, Limits, Refusal, Spec
from agent_sidecar.isolation.process_driver import ProcessDriver, make_process_driver
from bench import sandboxes
from bench.figures import Figure, Verdict, number, of_rounds, percentile
from bench.goals import SPREAD_LIMIT, verdict_on

SAMPLES = 40
"""Starts in a round."""
AT_ONCE = 50
SPIN_SECONDS = 2.0
CPUS = 0.5
YARDSTICK = "bare process"
SMALL = Limits(memory_bytes=128 << 20, cpus=2.0, pids=64)


@dataclass
class Round:
    """What one round measured: name -> value, in the unit of its figure."""

    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of the design (design/05 and D5 of the isolation research)."""

    what: str
    unit: str
    goal: float
    value: str
    """Which value of a round; with `against`, the other's is divided by it."""
    against: str = ""


START, START95, UP, DOWN = "start to exit p50", "start to exit p95", f"{AT_ONCE} up", f"{AT_ONCE} down"
IDLE, CPU, OOM, STOP = "memory at rest", "processor quota off by", "out of memory to its cause", "stop"
UNITS = {START: "ms", START95: "ms", UP: "s", DOWN: "s", IDLE: "MiB", CPU: "%", OOM: "ms", STOP: "ms"}
GOALS = (
    Goal("strict start incl. self-test, p50", "ms", 16, START),
    Goal("strict start incl. self-test, p95", "ms", 35, START95),
    Goal(f"{AT_ONCE} sandboxes up", "s", 0.6, UP),
    Goal(f"{AT_ONCE} sandboxes down, verified empty", "s", 0.3, DOWN),
    Goal("memory of a sandbox at rest, its shell included", "MiB", 1.5, IDLE),
    Goal("processor quota, error", "%", 3, CPU),
    Goal("out of memory: from the start of the bomb to its cause", "ms", 200, OOM),
    Goal("sandbox-runtime / strict, p50", "x", 10, START, "sandbox-runtime"),
)
"""Those with `against` are lower bounds, the others upper ones."""


class Bench:
    """A driver, and folders for one agent.

    Args:
        driver: Starts sandboxes.
        place: Holds the folders.
    """

    def __init__(self, driver: ProcessDriver, place: Path) -> None:
        self._driver = driver
        self._count = 0
        self._workspace, self._sockets = place / "workspace", place / "sockets"
        for folder in (self._workspace, self._sockets):
            folder.mkdir(mode=0o700)
            if os.geteuid() != driver.agent_uid:
                os.chown(folder, driver.agent_uid, driver.agent_uid)

    async def start(self, *argv: str, limits: Limits = SMALL) -> Handle:
        """Start a program at strict.

        Raises:
            SystemExit: This host cannot; says why.
        """
        self._count += 1
        spec = Spec("bench", f"bench-{self._count}", argv, {}, self._workspace, self._sockets, limits=limits)
        planned = self._driver.plan(spec)
        if isinstance(planned, Refusal):
            raise SystemExit(str(planned))
        return await self._driver.start(planned)

    async def run(self) -> Round:
        """Measure everything once."""
        done = Round()
        await self._starts(done)
        await self._many(done)
        await self._quota(done)
        await self._memory(done)
        return done

    async def _starts(self, done: Round) -> None:
        lasted, stopped = [], []
        for _ in range(SAMPLES):
            began = time.perf_counter()
            handle = await self.start("/bin/true")
            await handle.wait()
            ended = time.perf_counter()
            await handle.stop(0)
            lasted.append((ended - began) * 1e3)
            stopped.append((time.perf_counter() - ended) * 1e3)
        done.values |= {START: percentile(lasted, 0.5), START95: percentile(lasted, 0.95), STOP: percentile(stopped, 0.5)}

    async def _many(self, done: Round) -> None:
        began = time.perf_counter()
        handles = await asyncio.gather(*(self.start("/bin/sleep", "300") for _ in range(AT_ONCE)))
        up = time.perf_counter()
        rest = [(await each.stats()).memory_bytes / (1 << 20) for each in handles]
        begun = time.perf_counter()
        await asyncio.gather(*(each.stop(0) for each in handles))
        done.values |= {UP: up - began, DOWN: time.perf_counter() - begun, IDLE: statistics.median(rest)}

    async def _quota(self, done: Round) -> None:
        handle = await self.start("/bin/sh", "-c", "while :; do :; done", limits=replace(SMALL, cpus=CPUS))
        try:
            await asyncio.sleep(0.2)
            before, began = await handle.stats(), time.perf_counter()
            await asyncio.sleep(SPIN_SECONDS)
            after, ended = await handle.stats(), time.perf_counter()
        finally:
            await handle.stop(0)
        used = (after.cpu_seconds - before.cpu_seconds) / (ended - began)
        done.values[CPU] = abs(used / CPUS - 1) * 100

    async def _memory(self, done: Round) -> None:
        began = time.perf_counter()
        handle = await self.start("/usr/bin/tail", "/dev/zero", limits=replace(SMALL, memory_bytes=64 << 20))
        ended: Exit = await handle.wait()
        done.values[OOM] = (time.perf_counter() - began) * 1e3
        await handle.stop(0)
        if ended.cause is not Cause.OUT_OF_MEMORY:
            raise SystemExit(f"a memory bomb ended otherwise: {ended}")


def measure(rounds: int) -> tuple[list[Figure], list[Verdict]]:
    """Measure sandboxes at strict, beside those of others that are installed, in turns."""
    with tempfile.TemporaryDirectory(prefix="cb") as place:
        found, skipped = asyncio.run(_rounds(Path(place), rounds))
    every = {name: [each.values[name] for each in found if name in each.values] for name in _names(found)}
    figures = [of_rounds("isolation", name, UNITS.get(name, "ms"), values) for name, values in every.items()]
    return figures, [judge(goal, every, skipped) for goal in GOALS]


def judge(goal: Goal, values: Mapping[str, list[float]], skipped: Mapping[str, str]) -> Verdict:
    """Return the verdict on a goal.

    Args:
        goal: The goal.
        values: What was measured, by name, a value a round.
        skipped: Why another sandbox was not measured, by its name.
    """
    sign = ">=" if goal.against else "<="
    asked = f"{sign} {number(goal.goal)} {goal.unit}"
    if goal.against in skipped:
        return Verdict(goal.what, asked, asked, "-", f"skipped: {skipped[goal.against]}")
    measured = statistics.median(values[goal.value])
    doubt = _doubt(values[YARDSTICK])
    if goal.against:
        measured = statistics.median(values[goal.against]) / measured
    said = verdict_on(measured, goal.goal, goal.goal, more_is_better=bool(goal.against))
    return Verdict(goal.what, asked, asked, f"{number(measured)} {goal.unit}", doubt or said)


def _doubt(rounds: list[float]) -> str:
    """Return why this run says nothing: the yardstick, which is not ours, was measured once or came out too differently."""
    if len(rounds) < 2:
        return "no verdict: one round says nothing of the spread"
    spread = max(rounds) / min(rounds)
    return f"no verdict: a bare process itself spread {spread:.1f}x" if spread > SPREAD_LIMIT else ""


def _names(found: list[Round]) -> list[str]:
    return list(dict.fromkeys(name for each in found for name in each.values))


async def _rounds(place: Path, rounds: int) -> tuple[list[Round], dict[str, str]]:
    for name in ("state", "locks"):
        (place / name).mkdir(mode=0o700)
    driver = make_process_driver(place / "state", place / "locks", uid_range=sandboxes.UIDS)
    try:
        bench = Bench(driver, place)
        others, skipped = sandboxes.usable()
        for name, why in skipped.items():
            print(f"skipped: {name}: {why}", file=sys.stderr)
        found = []
        for _ in range(rounds):
            done = await bench.run()
            for name, once in others.items():
                done.values[name] = await asyncio.to_thread(_median, once)
            found.append(done)
        return found, skipped
    finally:
        await driver.close()


def _median(once: Callable[[], float]) -> float:
    return statistics.median(once() for _ in range(sandboxes.SAMPLES))

"""Messages survive whatever is killed or frozen while they are on their way: none lost, none seen twice, none out of order.

A seed decides what is hit and when; `CONDUCTOR_FAULT_SEEDS=7` repeats seed 7, `CONDUCTOR_FAULT_SEEDS=1-20` tries twenty.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.conftest import Installation
from tests.faults import plan
from tests.faults.fleet import Fleet
from tests.faults.plan import Fault
from tests.faults.programs import AGENT, CONTROL_PLANE, SIDECAR, Programs, Separate, Standalone

MANY = tuple(f"agent-{number:02}" for number in range(1, 21))
REACH, COUNT = 5, 100
"""20 agents with 5 recipients each, 100 messages to each of them: 10,000."""
FEW = MANY[:5]
FROZEN_SECONDS = 3.0
"""Longer than it takes to notice a silent peer (2 s), so that streams break and are opened again."""
PATIENCE = 90.0

MEMORY = Path("/dev/shm")
"""What a process wrote survives its kill here as it does on a disk. Without a disk's waits a run takes a third of the time; even
seeds and the whole set use the disk."""

pytestmark = pytest.mark.timeout(900)


def seeds() -> list[int]:
    first, _, last = os.environ.get("CONDUCTOR_FAULT_SEEDS", "1").partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.fixture
def home(seed: int) -> Iterator[Path]:
    """A short private path: pytest's own are too long for Unix sockets."""
    in_memory = seed % 2 and MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="cf-", dir=MEMORY if in_memory else None) as path:
        yield Path(path)


async def exchange(programs: Programs, faults: Sequence[Fault], count: int, seed: int, name: str) -> None:
    fleet = Fleet(programs, min(REACH, len(programs.folders) - 1), count, seed, PATIENCE)
    try:
        found = await fleet.run(faults)
    except TimeoutError as stuck:
        raise AssertionError(f"{stuck}\n{tracebacks(programs.logs())}") from stuck
    finally:
        await programs.close()
    print(f"\n{name}, seed {seed}\n{fleet.observations()}")  # noqa: T201 - shown with -s and when the test fails
    again = f"CONDUCTOR_FAULT_SEEDS={seed} python -m pytest tests/faults -k {name}"
    assert not found, f"{len(found)} violations; repeat with `{again}`\n" + "\n".join(map(str, found[:20]))
    assert tracebacks(programs.logs()) == []


def tracebacks(logs: str) -> list[str]:
    """Return what no program may write, whatever happens around it."""
    return [text[:5000] for text in logs.split("Traceback")[1:]]


@pytest.mark.parametrize("seed", seeds())
async def test_no_message_suffers_when_anything_is_killed(home: Path, seed: int):
    faults = plan.make(seed, "kill", MANY, {CONTROL_PLANE: 3, SIDECAR: 6, AGENT: 8}, most=1)
    await exchange(Separate(home, MANY), faults, COUNT, seed, "anything_is_killed")


@pytest.mark.parametrize("seed", seeds())
async def test_no_message_suffers_when_anything_is_frozen_for_a_while(home: Path, seed: int):
    faults = plan.make(seed, "freeze", MANY, {CONTROL_PLANE: 2, SIDECAR: 6, AGENT: 6}, most=1, seconds=FROZEN_SECONDS)
    await exchange(Separate(home, MANY), faults, COUNT, seed, "anything_is_frozen")


@pytest.mark.parametrize("seed", seeds())
async def test_no_message_suffers_in_a_whole_set_with_its_supervisor_and_sandboxes(installation: Installation, seed: int):
    killed = plan.make(seed, "kill", FEW, {CONTROL_PLANE: 2, SIDECAR: 2, AGENT: 2}, most=1)
    frozen = plan.make(seed, "freeze", FEW, {CONTROL_PLANE: 1, SIDECAR: 1, AGENT: 1}, most=1, seconds=FROZEN_SECONDS)
    faults = sorted((*killed, *frozen), key=lambda fault: fault.at)
    await exchange(Standalone(installation, FEW), faults, COUNT // 2, seed, "whole_set")

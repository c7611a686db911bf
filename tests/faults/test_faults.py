"""Messages survive whatever is killed or frozen while they are on their way: none lost, none seen twice, none out of order.

A seed decides what is hit and when; `CONDUCTOR_FAULT_SEEDS=7` repeats seed 7, `CONDUCTOR_FAULT_SEEDS=1-20` tries twenty.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import plan
from tests.faults.fleet import Fleet
from tests.faults.plan import Fault

AGENTS = tuple(f"agent-{number:02}" for number in range(1, 21))
REACH, COUNT = 5, 100
"""20 agents with 5 recipients each, 100 messages to each of them: 10,000."""
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(600)


def seeds() -> list[int]:
    first, _, last = os.environ.get("CONDUCTOR_FAULT_SEEDS", "1").partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.fixture
def home() -> Iterator[Path]:
    """A short private path: pytest's own are too long for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="cf-") as path:
        yield Path(path)


async def exchange(home: Path, faults: list[Fault], seed: int, name: str) -> None:
    fleet = Fleet(home, AGENTS, REACH, COUNT, seed)
    try:
        await fleet.start()
        found = await fleet.run(faults, PATIENCE)
        seen = fleet.observations()
    finally:
        await fleet.close()
    print(f"\n{name}, seed {seed}\n{seen}")  # noqa: T201 - shown with -s and when the test fails
    again = f"CONDUCTOR_FAULT_SEEDS={seed} python -m pytest tests/faults -k {name}"
    assert not found, f"{len(found)} violations; repeat with `{again}`\n" + "\n".join(map(str, found[:20]))


@pytest.mark.parametrize("seed", seeds())
async def test_no_message_suffers_when_anything_is_killed(home: Path, seed: int):
    faults = plan.make(seed, "kill", AGENTS, {"control plane": 3, "sidecar": 6, "agent": 8}, most=1)
    await exchange(home, faults, seed, "killed")


@pytest.mark.parametrize("seed", seeds())
async def test_no_message_suffers_when_anything_is_frozen_for_a_while(home: Path, seed: int):
    faults = plan.make(seed, "freeze", AGENTS, {"control plane": 2, "sidecar": 6, "agent": 6}, most=1, seconds=3.0)
    await exchange(home, faults, seed, "frozen")


@pytest.mark.parametrize("seed", seeds())
async def test_no_message_suffers_without_faults(home: Path, seed: int):
    await exchange(home, [], seed, "undisturbed")

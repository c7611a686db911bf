"""Every task ends once and rightly, whatever is killed or frozen: none lost, no result counted twice, late ones refused.

A seed decides what is hit and when; `CONDUCTOR_FAULT_SEEDS=7` repeats seed 7, `CONDUCTOR_FAULT_SEEDS=1-20` tries twenty.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import plan
from tests.faults.programs import AGENT, CONTROL_PLANE, SIDECAR, Slots
from tests.faults.task_fleet import TaskFleet
from tests.faults.test_faults import home, seeds, tracebacks

__all__ = ["home"]

SLOTS = tuple(f"slot-{number}" for number in range(1, 9))
LEASE, HEARTBEAT = 3.0, 0.75
FROZEN_SECONDS = 5.0
"""Longer than a lease."""
CAPS = {"labels": {"kind=parent": 3}}
"""Parents that wait for their children leave them some slots."""
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("seed", seeds())
async def test_every_task_ends_once_whatever_is_killed_or_frozen(home: Path, seed: int) -> None:
    killed = plan.make(seed, "kill", SLOTS, {CONTROL_PLANE: 3, SIDECAR: 5, AGENT: 6}, most=2)
    frozen = plan.make(seed, "freeze", SLOTS, {CONTROL_PLANE: 1, SIDECAR: 5, AGENT: 3}, most=1, seconds=FROZEN_SECONDS)
    faults = sorted((*killed, *frozen), key=lambda fault: fault.at)
    programs = Slots(home, SLOTS, lease_seconds=LEASE, heartbeat_seconds=HEARTBEAT, caps=CAPS)
    fleet = TaskFleet(programs, home / "records", LEASE, PATIENCE)
    try:
        found = await fleet.run(faults)
    except TimeoutError as stuck:
        raise AssertionError(f"{stuck}\n{tracebacks(programs.logs())}") from stuck
    finally:
        await programs.close()
    print(f"\ntasks, seed {seed}\n{fleet.observations()}")  # noqa: T201 - shown with -s and when the test fails
    again = f"CONDUCTOR_FAULT_SEEDS={seed} python -m pytest tests/faults/test_task_faults.py"
    assert not found, f"{len(found)} violations; repeat with `{again}`\n" + "\n".join(map(str, found[:20]))
    crashes = tracebacks(programs.logs())
    assert not crashes, "\n".join(crashes)

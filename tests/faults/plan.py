"""What is done to which process at which point of a run? Chosen from a seed, so that a run can be repeated."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST, LAST = 0.03, 0.85
"""Between which shares of the accepted messages faults happen: there is traffic before and after each."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    at: float
    """Share of the messages that are accepted when it happens; what else is under way then is up to the machine."""
    action: str
    """`kill` (and start again) or `freeze` (and go on after `seconds`)."""
    program: str
    """`control plane`, `sidecar` or `agent`."""
    agent: str = ""
    """Whose sidecar, or which agent."""
    seconds: float = 0.0


def make(
    seed: int, action: str, agents: Sequence[str], counts: Mapping[str, int], most: int, seconds: float = 0.0
) -> list[Fault]:
    """Return faults in the order they happen.

    Args:
        seed: Decides everything.
        action: What happens.
        agents: Who may be hit.
        counts: How many faults of each program.
        most: How many faults at most one agent or its sidecar gets.
        seconds: How long a process stays frozen.
    """
    chance = random.Random(f"{seed} {action}")
    hits: Counter[str] = Counter()
    faults = []
    for program, count in counts.items():
        for _ in range(count):
            agent = ""
            if program != "control plane":
                agent = chance.choice([each for each in agents if hits[each] < most])
                hits[agent] += 1
            faults.append(Fault(chance.uniform(FIRST, LAST), action, program, agent, seconds))
    return sorted(faults, key=lambda fault: fault.at)

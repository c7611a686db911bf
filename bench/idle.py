"""What does it cost the control plane that agents are connected and do nothing?"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Figure, Verdict, of_rounds
from bench.goals import judge_idle
from bench.processes import End, RunFailedError, control_plane, cpu_seconds, memory, of_ours, sockets
from bench.systems import TREE

HOLDERS = 4
"""Processes that hold the sessions."""
SETTLE_SECONDS = 2.0
WATCH_SECONDS = 3.0


def measure(numbers: Sequence[int]) -> tuple[list[Figure], Verdict]:
    """Return memory and idle processor time for each number of agents, and the verdict on a thousand."""
    base = _connected(0)[0]
    found = [of_rounds("idle", "control plane RSS, no agents", "MB", [base])]
    of_thousand: float | None = None
    for agents in numbers:
        try:
            rss, pss, share = _connected(agents)
        except RunFailedError as error:
            print(f"{agents} idle agents: no result: {error}", file=sys.stderr)
            continue
        each = f"{(rss - base) * 1024 / agents:.0f}"
        found += [
            of_rounds("idle", f"control plane RSS, {agents} agents", "MB", [rss], kb_per_agent=each),
            of_rounds("idle", f"control plane PSS, {agents} agents", "MB", [pss]),
            of_rounds("idle", f"control plane CPU, {agents} agents", "% of a core", [share * 100]),
        ]
        of_thousand = rss if agents == 1000 else of_thousand
    return found, judge_idle(of_thousand)


def _connected(agents: int) -> tuple[float, float, float]:
    """Return RSS and PSS in MB and the share of a core the control plane uses while so many sessions are open.

    Raises:
        RunFailedError: Not all of them stayed open.
    """
    names = [f"r{number}" for number in range(agents)]
    with tempfile.TemporaryDirectory(prefix="cb") as place, ExitStack() as stack:
        server = stack.enter_context(control_plane(Path(place), names, "sqlite"))
        address = f"unix:{Path(place) / 'run/control.sock'}"
        share = -(-agents // HOLDERS)
        holders = []
        for first in range(0, agents, share or 1):
            options = {"address": address, "pairs": min(share, agents - first), "first": first, "count": 0}
            command = [sys.executable, "-m", "bench.ends.conductor", "sink", *(f"--{name}={at}" for name, at in options.items())]
            holders.append(stack.enter_context(End(command, TREE, of_ours())))
        for holder in holders:
            holder.ready()
        time.sleep(SETTLE_SECONDS)
        before = cpu_seconds(server.pid)
        time.sleep(WATCH_SECONDS)
        used = (cpu_seconds(server.pid) - before) / WATCH_SECONDS
        if sockets(server.pid) < agents:
            raise RunFailedError(f"some of the {agents} sessions ended meanwhile; the machine is too busy")
        return *memory(server.pid), used

"""What did a program that was killed leave behind, and how does it end?"""

from __future__ import annotations

import contextlib
import os

from claude_conductor.supervisor import cgroups, processes
from claude_conductor.supervisor.home import CGROUP_LIST_BYTES, Home, read_private
from claude_conductor.supervisor.state import State

CLEAR_BOUND = 2.0
"""Seconds one agent's cgroups get to empty at the end of the set."""


def end(home: Home, state: State, grace: float) -> tuple[str, ...]:
    """End the programs a state names, as far as they are still exactly those, and what is in their cgroups.

    Args:
        home: Where the lists of cgroups are.
        state: What the supervisor wrote last.
        grace: Seconds they get: they were sent TERM when the supervisor died, and may be ending in order.

    Returns:
        The names of the programs that had to be killed.
    """
    names = {
        processes.Identity(child.pid, child.start_time): child.name
        for child in state.children
        if child.pid is not None and child.start_time is not None
    }
    killed = processes.end_all(names, grace)
    for child in state.children:
        if child.agent_id is not None:
            clear(home, child.agent_id)
    return tuple(names[identity] for identity in killed)


def kill_cgroups(home: Home, agent_id: str) -> None:
    """Kill what runs in the cgroups that an agent's sidecar listed; the sidecar has to be dead."""
    cgroups.kill(cgroups.ours(read_private(home.cgroups(agent_id), CGROUP_LIST_BYTES) or ""))


def clear(home: Home, agent_id: str) -> None:
    """Remove the cgroups and sockets of a sidecar that has ended and will not be started again."""
    listed = read_private(home.cgroups(agent_id), CGROUP_LIST_BYTES) or ""
    cgroups.kill(cgroups.ours(listed), CLEAR_BOUND)
    with contextlib.suppress(OSError):  # it never came so far, or somebody removed it already
        for entry in os.scandir(os.path.dirname(home.cgroups(agent_id))):
            if entry.name.endswith(".sock"):
                os.unlink(entry.path)

"""What did a supervisor that was killed leave behind, and how does it end?"""

from __future__ import annotations

from claude_conductor.supervisor import cgroups, processes
from claude_conductor.supervisor.home import CGROUP_LIST_BYTES, Home, read_private
from claude_conductor.supervisor.state import State


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
            kill_cgroups(home, child.agent_id)
    return tuple(names[identity] for identity in killed)


def kill_cgroups(home: Home, agent_id: str) -> None:
    """Kill what runs in the cgroups that an agent's sidecar listed; the sidecar has to be dead."""
    cgroups.kill(cgroups.ours(read_private(home.cgroups(agent_id), CGROUP_LIST_BYTES) or ""))

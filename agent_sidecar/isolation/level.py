"""What each level asks of the host: table D2 of the isolation design as data."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from agent_sidecar.isolation.interface import Level


class Want(enum.Enum):
    """How much a level needs a mechanism."""

    REQUIRED = "required"
    WANTED = "wanted"
    """Used if it is there; if not, the run goes on and says so."""
    UNUSED = "unused"


BUBBLEWRAP = "bubblewrap"
USER_NAMESPACE = "user_namespace"
PID_NAMESPACE = "pid_namespace"
NETWORK_NAMESPACE = "network_namespace"
NESTING_OFF = "nesting_off"
SECCOMP = "seccomp"
MEMORY = "cgroup.memory"
CPU = "cgroup.cpu"
PIDS = "cgroup.pids"
KILL = "cgroup.kill"
OWN_UID = "own_uid"
STAGING = "staging"
DISK = "disk"
NO_NEW_PRIVS = "no_new_privs"
SHELL = "self_test"

EVERY = (
    *(BUBBLEWRAP, USER_NAMESPACE, PID_NAMESPACE, NETWORK_NAMESPACE, NESTING_OFF, SECCOMP, MEMORY, CPU, PIDS, KILL, OWN_UID),
    *(STAGING, DISK, NO_NEW_PRIVS, SHELL),
)
"""Every mechanism, in the order in which people are told of them."""

ONLY_ROOT = frozenset({OWN_UID, STAGING})
"""Mechanisms that only a root sidecar can have, and must: an ordinary user's sidecar relies on namespaces instead."""

_ALWAYS = {OWN_UID: Want.REQUIRED, STAGING: Want.REQUIRED, NO_NEW_PRIVS: Want.REQUIRED}
"""Without a uid of its own an agent of a root sidecar would be host uid 0, which no level allows."""

WANTS: Mapping[Level, Mapping[str, Want]] = {
    Level.STRICT: dict.fromkeys(EVERY, Want.REQUIRED),
    Level.MODERATE: _ALWAYS
    | dict.fromkeys((BUBBLEWRAP, USER_NAMESPACE, PID_NAMESPACE, NETWORK_NAMESPACE, SECCOMP, SHELL), Want.REQUIRED)
    | dict.fromkeys((MEMORY, CPU, PIDS, KILL, DISK, NESTING_OFF), Want.WANTED),
    Level.MINIMAL: _ALWAYS
    | dict.fromkeys((BUBBLEWRAP, USER_NAMESPACE, PID_NAMESPACE, NETWORK_NAMESPACE, NESTING_OFF, SHELL), Want.UNUSED)
    | dict.fromkeys((SECCOMP, MEMORY, CPU, PIDS, KILL, DISK), Want.WANTED),
}
"""What each level wants. `disk` counts only where a cap is asked for."""

DEGRADED: Mapping[str, str] = {
    MEMORY: "memory is bounded for each process alone (RLIMIT_DATA), not for the agent as a whole",
    PIDS: "the number of processes is bounded for the uid alone (RLIMIT_NPROC)",
    CPU: "processor time is not bounded; the agent runs at a lower priority",
    KILL: "a stop kills the processes it finds, which a fast forker may outrun",
    DISK: "the workspace is not capped as a whole; a single file is (RLIMIT_FSIZE)",
    SECCOMP: "no system call is filtered",
    NESTING_OFF: "the agent can make user namespaces of its own",
}
"""What it means, in words, that a wanted mechanism is missing."""

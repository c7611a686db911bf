"""What every isolation driver is: probe the host, plan purely, start, watch, stop, sweep.

A driver never steps down by itself: `plan` returns a `Refusal` that names each missing mechanism and what adds it, and an
explicit lower level is the caller's decision.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Level(enum.Enum):
    """How far an agent is kept apart; design/05 table D2 says what each asks for."""

    STRICT = "strict"
    MODERATE = "moderate"
    MINIMAL = "minimal"


class Strength(enum.Enum):
    """How well one mechanism works on this host."""

    YES = "yes"
    SOFT = "soft"
    """It is watched and corrected afterwards, not enforced by the kernel."""
    NO = "no"


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One thing the kernel or a program can do for isolation, as found on this host by trying it."""

    name: str
    """Such as `bubblewrap`, `user_namespace`, `seccomp`, `cgroup.memory`, `cgroup.pids`, `cgroup.kill`, `own_uid`."""
    strength: Strength
    detail: str = ""
    """What was found: a version, `cgroup v1`, the error of the attempt."""
    remedy: str = ""
    """The command that adds it on this host; empty where it is there."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one driver can do on this host; every entry was tried, not guessed."""

    driver: str
    mechanisms: tuple[Mechanism, ...]

    def strength(self, name: str) -> Strength:
        """Return how well the mechanism works; one that was not probed does not."""
        return next((m.strength for m in self.mechanisms if m.name == name), Strength.NO)


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of one run. Sizes in bytes."""

    memory_bytes: int = 1 << 30
    cpus: float = 0.5
    """Processors, as a share: 0.5 is half of one."""
    pids: int = 512
    """Processes and threads together."""
    workspace_bytes: int = 0
    """Cap of the workspace as a whole; 0: none was asked for."""
    tmp_bytes: int = 256 << 20
    """Size of the private /tmp (a tmpfs, so it counts as memory too)."""
    open_files: int = 4096


@dataclass(frozen=True, slots=True)
class Spec:
    """One process tree to run, before the level and the host are considered."""

    agent_id: str
    run_id: str
    """Unique for each start; names the cgroup."""
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole environment; nothing is inherited."""
    workspace: Path
    """Host folder, shown read-write as /workspace; also the working directory."""
    socket_directory: Path
    """Host folder with the agent's sockets, shown read-only as /run/conductor."""
    level: Level = Level.STRICT
    limits: Limits = field(default_factory=Limits)
    toolchains: tuple[Path, ...] = ()
    """Host folders shown read-only at their own absolute path (interpreters, node, Claude Code)."""
    bridges: Mapping[int, str] = field(default_factory=dict)
    """Loopback TCP port inside -> name of the Unix socket in /run/conductor it leads to (the model gateway)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why this host cannot run the spec at its level."""

    level: Level
    missing: tuple[Mechanism, ...]

    def __str__(self) -> str:
        lines = [
            f"{m.name}: {m.detail or 'not available'}; {m.remedy or 'no remedy is known on this host'}" for m in self.missing
        ]
        return f"isolation level {self.level.value} is not possible here - " + " / ".join(lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision: everything `start` needs, nothing left to decide."""

    spec: Spec
    effective_level: Level
    in_force: tuple[str, ...]
    """Names of the mechanisms that will be in force."""
    degraded: tuple[str, ...] = ()
    """What is weaker than the level wants, in words; always empty at strict."""


class Cause(enum.Enum):
    """Why a run ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out_of_memory"
    STOPPED = "stopped"
    """`stop` ended it."""
    START_FAILED = "start_failed"
    """The sandbox itself could not be entered; `detail` holds its own error."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended."""

    cause: Cause
    code: int | None = None
    """Exit code, if it exited."""
    signal: int | None = None
    detail: str = ""
    """For people: `killed at the memory limit of 1 GiB (peak 1023 MiB); raise it with --memory`."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a run used so far."""

    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    cpu_seconds: float = 0.0
    throttled_seconds: float = 0.0
    pids: int = 0
    oom_kills: int = 0
    pids_refused: int = 0
    """Forks refused at the pids limit."""


class Handle(Protocol):
    """One running sandbox."""

    @property
    def pid(self) -> int:
        """Process id of the sandbox's outermost process on the host."""

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (`stdout` | `stderr`, chunk) until both are closed. May be iterated once."""

    async def write_stdin(self, data: bytes) -> None:
        """Write to standard input and close it. At most once."""

    async def wait(self) -> Exit:
        """Return when the process tree has ended. May be awaited by several tasks; cancelling it leaves the run alone."""

    async def stats(self) -> Stats:
        """Return the use so far; after the end, the last known."""

    def signal(self, number: int) -> None:
        """Send a signal to the agent's process (not to the sandbox around it)."""

    async def stop(self, grace: float) -> Exit:
        """End it: TERM, `grace` seconds, cgroup kill, reap, verify that nothing is left, remove the cgroup.

        Idempotent; also required after a run that ended by itself, to free its cgroup.
        """


class IsolationDriver(Protocol):
    """One way of isolating an agent."""

    @property
    def agent_uid(self) -> int:
        """Host uid the agent runs as; workspaces and sockets are given to it."""

    def probe(self) -> Capabilities:
        """Try every mechanism on this host; the answer is kept for the life of the driver."""

    def plan(self, spec: Spec) -> Plan | Refusal:
        """Decide, without any effect, how the spec runs here - or why not."""

    async def start(self, plan: Plan) -> Handle:
        """Start what was planned. The in-sandbox self-test has passed before the agent's first instruction.

        Raises:
            IsolationRefusedError: The self-test found a mechanism not in force.
        """

    async def sweep(self) -> list[str]:
        """Remove what earlier lives of this slot left behind (processes, cgroups, mounts); return what was found."""

    async def close(self) -> None:
        """Stop everything that runs and release the slot. Idempotent."""

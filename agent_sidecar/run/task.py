"""What a sidecar knows of a task: the assignment it was given, and the result it hands back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent_sidecar.isolation.interface import Level, Limits


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a task; (attempt, epoch) is the fencing token of every report."""

    task_id: str
    attempt: int
    epoch: int


@dataclass(frozen=True, slots=True)
class EmptySource:
    """A workspace that starts empty."""


@dataclass(frozen=True, slots=True)
class GitSource:
    """A workspace that is a clone."""

    repository: str
    """Absolute path or URL."""
    ref: str = ""
    """Branch, tag or commit; empty means HEAD."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A workspace that is a copy of a folder of this host."""

    path: Path


Source = EmptySource | GitSource | FolderSource


@dataclass(frozen=True, slots=True)
class LimitsAsked:
    """Limits a task asks for; 0 means the configured one."""

    memory_bytes: int = 0
    cpus: float = 0.0
    pids: int = 0
    workspace_bytes: int = 0

    def over(self, configured: Limits) -> Limits:
        """Return the configured limits with those the task asks for in their place."""
        return Limits(
            memory_bytes=self.memory_bytes or configured.memory_bytes,
            cpus=self.cpus or configured.cpus,
            pids=self.pids or configured.pids,
            workspace_bytes=self.workspace_bytes or configured.workspace_bytes,
            tmp_bytes=configured.tmp_bytes,
            open_files=configured.open_files,
        )


@dataclass(frozen=True, slots=True)
class SetupOrder:
    """A command that makes the workspace ready. Timeout in seconds; paths are relative to the workspace."""

    command: tuple[str, ...]
    timeout: float = 600.0
    cache_files: tuple[str, ...] = ()
    """Files that decide what it makes; empty: never skipped."""
    keep: tuple[str, ...] = ()
    """What it makes."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """The most an attempt may use of each, subtasks included; None: no limit. Time in seconds."""

    seconds: float | None = None
    turns: int | None = None
    tokens: int | None = None
    usd: float | None = None

    @property
    def of_models(self) -> bool:
        """Whether calls of models are limited."""
        return (self.turns, self.tokens, self.usd) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Amount:
    """What is used, or set aside, of models."""

    turns: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task for this sidecar. Times in seconds."""

    lease: Lease
    mailbox: str
    tenant_id: str = ""
    traceparent: str = ""
    driver: str = "command"
    type: str = "generic"
    prompt: str = ""
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prompt_by: str = "argument"
    model: str = ""
    max_turns: int = 0
    source: Source = field(default_factory=EmptySource)
    level: Level | None = None
    """None: the slot's."""
    limits: LimitsAsked = field(default_factory=LimitsAsked)
    allow: tuple[str, ...] = ()
    """Hosts the agent may reach; empty: those of the slot's settings."""
    timeout: float = 3600.0
    """Not longer than the time of `allowance`."""
    allowance: Allowance = Allowance()
    parent_task_id: str = ""
    writes: tuple[str, ...] = ()
    """Paths of the repository that it may change; empty: whatever it likes."""
    setup: SetupOrder | None = None
    keep_workspace: bool = False
    spec: bytes = b""
    """The whole TaskSpec as it came, for a long-running agent that wants to read it."""


class FailureKind(enum.Enum):
    """What kind of failure ended an attempt. The names are those of the proto's FailureKind."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    STARTUP_TIMEOUT = "startup_timeout"
    AGENT_LOST = "agent_lost"
    ISOLATION_REFUSED = "isolation_refused"
    WORKSPACE = "workspace"
    PROGRAM_MISSING = "program_missing"
    AGENT_REPORTED = "agent_reported"
    CANCELLED = "cancelled"
    INVALID_TASK = "invalid_task"
    DEPENDENCY = "dependency"
    BUDGET = "budget"
    SETUP = "setup"


RETRYABLE = frozenset({FailureKind.EXIT_CODE, FailureKind.SIGNAL, FailureKind.STARTUP_TIMEOUT, FailureKind.AGENT_LOST})
"""Kinds another attempt may help with; the control plane has the last word."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed."""

    kind: FailureKind
    message: str

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help."""
        return self.kind in RETRYABLE


@dataclass(frozen=True, slots=True)
class Cancellation:
    """An order to end a task."""

    grace: float
    reason: str
    kind: FailureKind = FailureKind.CANCELLED


@dataclass(frozen=True, slots=True)
class InForce:
    """What isolation is in force around a run, as the driver checked it."""

    requested: Level
    effective: Level
    driver: str
    mechanisms: tuple[str, ...] = ()
    degradations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model was used for, as the gateway counted it."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    turns: int = 0
    """Its answers."""
    cost_usd: float = 0.0
    unpriced_tokens: int = 0
    """Tokens of all sorts that no price is known of."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt used. Times in seconds, sizes in bytes."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    throttled_seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    turns: int = 0
    cost_usd: float = 0.0
    models: tuple[ModelUsage, ...] = ()
    """The part that the gateway counted, the most expensive model first."""
    unpriced_tokens: int = 0
    """Tokens of all sorts whose cost is not known."""


@dataclass(frozen=True, slots=True)
class Patch:
    """The changes of a run as a file that is to be stored before its report is sent."""

    path: Path
    sha256: str
    """Hexadecimal, of the content."""
    size_bytes: int
    files: int
    added_lines: int
    removed_lines: int

    @property
    def artefact_id(self) -> str:
        """Identifies its content in the control plane."""
        return f"sha256_{self.sha256}"


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended."""

    failure: Failure | None = None
    exit_code: int | None = None
    summary: str = ""
    usage: Usage = Usage()
    patch: Patch | None = None
    base_commit: str = ""
    in_force: InForce | None = None
    warnings: tuple[str, ...] = ()
    workspace: str = ""
    """Where its files are kept; empty where they were removed."""
    rate_limited: float | None = None
    """Seconds for which the provider takes no requests, if that was the last it said to an attempt that failed."""


class Activity(enum.Enum):
    """What a slot does. The names are those of the proto's AgentState."""

    IDLE = "idle"
    WORKING = "working"
    WAITING_FOR_HUMAN = "waiting_for_human"
    RATE_LIMITED = "rate_limited"
    STALLED = "stalled"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class Condition:
    """A slot at one moment, for the heartbeat."""

    activity: Activity
    reason: str = ""
    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    pids: int = 0

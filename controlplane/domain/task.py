"""What a task is, from what was asked for to what came out."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_conductor.ids import AgentId, ArtefactId, Incarnation, TaskId, TenantId
from controlplane.domain.budget import Budget, Share, Spent
from controlplane.domain.landing import Landing
from controlplane.domain.question import Question

DEFAULT_PRIORITY = 5
DEFAULT_TIMEOUT = 3600.0
DEFAULT_MAX_ATTEMPTS = 3
MAX_LOSSES = 5
"""A task that lost its agent this often is DEAD: it probably kills it."""


class State(enum.Enum):
    """Where a task stands. The names are those of the proto's TaskState."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    WAITING_FOR_HUMAN = "waiting_for_human"
    RATE_LIMITED = "rate_limited"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    DEAD = "dead"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in _FINAL

    @property
    def held(self) -> bool:
        """Whether an agent has it."""
        return self in _HELD


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.DEAD})
_HELD = frozenset({State.LEASED, State.RUNNING, State.WAITING_FOR_HUMAN, State.RATE_LIMITED})


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


RETRYABLE = frozenset({FailureKind.EXIT_CODE, FailureKind.SIGNAL, FailureKind.STARTUP_TIMEOUT})
"""Kinds another attempt may help with; the control plane decides this, not the sidecar's word."""


BY_A_LIMIT = frozenset({FailureKind.EXIT_CODE, FailureKind.SIGNAL, FailureKind.TIMEOUT, FailureKind.AGENT_REPORTED})
"""Kinds that an agent may fail with only because its model provider takes no requests."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed."""

    kind: FailureKind
    message: str

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help."""
        return self.kind in RETRYABLE


class IsolationLevel(enum.Enum):
    """How far an agent is kept apart, weakest first."""

    MINIMAL = "minimal"
    MODERATE = "moderate"
    STRICT = "strict"

    @property
    def rank(self) -> int:
        """Larger is stricter."""
        return ("minimal", "moderate", "strict").index(self.value)


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Upper bounds of one run; 0 means the agent's configured limit. Sizes in bytes."""

    memory_bytes: int = 0
    cpus: float = 0.0
    pids: int = 0
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True)
class IsolationStatus:
    """What was in force around a run, as its sidecar checked it."""

    requested_level: IsolationLevel | None = None
    effective_level: IsolationLevel | None = None
    driver: str = ""
    mechanisms: tuple[str, ...] = ()
    degradations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the files of a task come from: `empty`, `git` or `folder`."""

    kind: str = "empty"
    location: str = ""
    """Absolute path or URL; empty for an empty workspace."""
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """A command that makes a workspace ready before the agent starts; without a command there is none. Timeout in seconds."""

    command: tuple[str, ...] = ()
    timeout: float = 600.0
    cache_files: tuple[str, ...] = ()
    """Files that decide what it makes; empty: it is never skipped."""
    keep: tuple[str, ...] = ()
    """What it makes."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how quickly a failed task is tried again. Delays in seconds."""

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    first_delay: float = 1.0
    max_delay: float = 300.0


class OnFailure(enum.Enum):
    """What becomes of a group when a subtask does not succeed: the others finish, or are stopped."""

    FINISH = "finish"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class FanOut:
    """What makes a task a group."""

    parallel: int = 0
    """How many of its subtasks agents may have at once; 0: any number."""
    on_failure: OnFailure = OnFailure.FINISH


@dataclass(frozen=True, slots=True)
class Part:
    """A subtask as its group knows it."""

    task_id: TaskId
    state: State | None = None
    """None: it has not ended."""
    words: str = ""
    """What came of it, until the group ends and has that in its result."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a submitter asks for, defaults filled in. Times in seconds since the epoch, spans in seconds."""

    type: str = "generic"
    prompt: str = ""
    driver: str = ""
    command: tuple[str, ...] = ()
    prompt_by: str = "argument"
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    workspace: Workspace = Workspace()
    priority: int = DEFAULT_PRIORITY
    timeout: float = DEFAULT_TIMEOUT
    retry: RetryPolicy = RetryPolicy()
    isolation_level: IsolationLevel | None = None
    """None: the agent's configured level."""
    limits: ResourceLimits = ResourceLimits()
    allow: tuple[str, ...] = ()
    """Hosts the agent may reach, as `claude_conductor.egress` reads them; empty: what the agent's settings allow."""
    required_labels: Mapping[str, str] = field(default_factory=dict)
    agent_id: str = ""
    depends_on: tuple[TaskId, ...] = ()
    parent_task_id: str = ""
    not_before: float = 0.0
    model: str = ""
    max_turns: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    instructions: str = ""
    """What the agent is told instead of the prompt alone; empty where its type adds nothing."""
    writes: tuple[str, ...] = ()
    """Paths of the repository it may change, in their normal form (`write_set.declared`); empty: nothing is declared."""
    setup: Setup = Setup()
    keep_workspace: bool = False
    budget: Budget = Budget()
    """What it may use; what a subtask was given is `Task.budget`."""
    follows: tuple[TaskId, ...] = ()
    """Tasks that must have ended before, whatever came of them."""
    fan_out: FanOut | None = None
    """Set of a group, which is given to no agent."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a task. (attempt, epoch) is the fencing token."""

    task_id: TaskId
    attempt: int
    epoch: int
    """64 random bits of this hand-out."""


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model was used for, as the model gateway counted it."""

    model: str
    """As the provider calls it; empty where it did not say."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    turns: int = 0
    cost_usd: float = 0.0
    unpriced_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt used."""

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
    """Without the tokens of `unpriced_tokens`."""
    models: tuple[ModelUsage, ...] = ()
    """The part that the model gateway counted, the most expensive model first."""
    unpriced_tokens: int = 0
    """Tokens of all sorts whose cost is not known."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """Something a task left behind."""

    artefact_id: ArtefactId
    name: str
    size_bytes: int
    sha256: str
    """Hexadecimal."""
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished attempt hands back."""

    exit_code: int | None = None
    summary: str = ""
    failure: Failure | None = None
    usage: Usage = Usage()
    artefacts: tuple[Artefact, ...] = ()
    patch_artefact_id: str = ""
    base_commit: str = ""
    patch_files: int = 0
    patch_added: int = 0
    patch_removed: int = 0
    isolation: IsolationStatus = IsolationStatus()
    warnings: tuple[str, ...] = ()
    workspace: str = ""
    """Folder on the agent's host with its files; empty where they were removed."""
    rate_limited: float | None = None
    """Seconds for which the provider takes no requests, if that was the last it said to an attempt that failed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One hand-out of a task. Times in seconds since the epoch."""

    attempt: int
    agent_id: AgentId
    lease_time: float
    start_time: float | None = None
    end_time: float | None = None
    failure: Failure | None = None
    usage: Usage = Usage()
    """What it used, as far as that was reported."""
    claim: Spent = Spent()
    """What it may have used by now, model calls under way included; of an attempt that reported its end, nothing."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the control plane knows it. Times in seconds since the epoch."""

    id: TaskId
    tenant_id: TenantId
    spec: Spec
    state: State
    reason: str
    create_time: float
    submitter: str
    traceparent: str = ""
    request_id: str = ""
    version: int = 1
    """Grows by one with every saved change; what compare-and-set compares."""
    queue_time: float = 0.0
    """When it last became ready, the base of its place in the queue. A task that lost its agent keeps it."""
    not_before: float = 0.0
    """While BLOCKED: not released before this time (delay or retry back-off)."""
    lane: str = ""
    """Queued tasks of one lane want the same of an agent and fall under the same caps (`lane.lane_of`)."""
    waits_for: frozenset[TaskId] = frozenset()
    """Dependencies that have not succeeded yet, and tasks it follows that have not ended; of a group, its open subtasks."""
    lease: Lease | None = None
    agent_id: AgentId = AgentId("")
    """The agent that has it or had it last."""
    incarnation: Incarnation = Incarnation("")
    """The life of the sidecar that has it."""
    progress: str = ""
    start_time: float | None = None
    end_time: float | None = None
    result: Result | None = None
    attempts: tuple[Attempt, ...] = ()
    failures: int = 0
    """Attempts that failed; losses of the agent are not among them."""
    losses: int = 0
    cancel_reason: str | None = None
    """Set once somebody asked for its end while an agent had it."""
    isolation: IsolationStatus = IsolationStatus()
    state_time: float = 0.0
    """Since when it is in its state; 0 if an older version stored it."""
    question: Question | None = None
    """What its agent asked a human last; open exactly while it is WAITING_FOR_HUMAN."""
    limited_until: float | None = None
    """Until about when the model provider takes no requests; None: it does."""
    limited_why: str = ""
    budget: Budget = Budget()
    """What it may use with all of its attempts and subtasks; of a subtask, a part of its parent's."""
    shares: tuple[Share, ...] = ()
    """What its subtasks may use that go on."""
    settled: Spent = Spent()
    """What its subtasks used that ended."""
    parts: tuple[Part, ...] = ()
    """Of a group: its subtasks."""
    parallel: int | None = None
    """Of a subtask of a group: how many of these agents may have at once (0: any number); None: it is of no group."""
    landing: Landing | None = None
    """What became of its patch the last time somebody tried to land it."""


AGEING_SECONDS = 60.0
"""Waiting this long counts as much as one step of priority, so nothing starves."""


def queue_order(task: Task) -> float:
    """Return the task's place in the queue: smaller goes first.

    Priority with ageing as one number that never changes while it waits, so a store can index it: a task of priority p that
    became ready at t goes before one of priority q that became ready at u if t - 60 p < u - 60 q.
    """
    return task.queue_time - task.spec.priority * AGEING_SECONDS

"""What an agent is to the control plane, and the one truth about what it does."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_conductor.ids import AgentId, Incarnation, TenantId
from controlplane.domain.task import IsolationLevel, IsolationStatus, ResourceLimits


class State(enum.Enum):
    """What an agent is doing; the states exclude each other. The names are those of the proto's AgentState."""

    IDLE = "idle"
    WORKING = "working"
    WAITING_FOR_HUMAN = "waiting_for_human"
    RATE_LIMITED = "rate_limited"
    STALLED = "stalled"
    LOST = "lost"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """Resources in use at one moment."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Agent:
    """A slot that works on one task at a time. Times in seconds since the epoch."""

    id: AgentId
    tenant_id: TenantId
    incarnation: Incarnation
    state: State
    state_time: float
    state_reason: str
    drivers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    task_id: str = ""
    isolation: IsolationStatus = IsolationStatus()
    use: ResourceUse = ResourceUse()
    sidecar_pid: int = 0
    host: str = ""
    version: str = ""
    strongest_level: IsolationLevel | None = None
    default_level: IsolationLevel = IsolationLevel.STRICT
    default_limits: ResourceLimits = ResourceLimits()
    capacity: ResourceLimits = ResourceLimits()
    """What its host has, so that no task can be given more; 0: not known."""
    long_running: bool = False
    credential: str = ""
    """Id of the provider credential that its gateway uses; empty without one."""
    credential_drivers: tuple[str, ...] = ()
    """Kinds of task that need it."""

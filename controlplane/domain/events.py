"""What watchers are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_conductor.ids import DEFAULT_TENANT, TenantId


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `cursor` is 0 until the log has given it a place."""

    type: str
    """Such as `task.running` or `agent.lost`: subject, dot, what happened."""
    time: float
    """Seconds since the epoch."""
    summary: str
    tenant_id: TenantId = DEFAULT_TENANT
    task_id: str = ""
    agent_id: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    cursor: int = 0

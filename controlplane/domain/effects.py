"""What has to be done once a task is saved?"""

from __future__ import annotations

from dataclasses import dataclass

from claude_conductor.ids import AgentId
from controlplane.domain.question import Question
from controlplane.domain.task import Lease


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell watchers."""

    type: str
    summary: str


@dataclass(frozen=True, slots=True)
class SendCancellation:
    """Tell the sidecar that has it to end it."""

    lease: Lease
    agent_id: AgentId
    grace: float
    reason: str


@dataclass(frozen=True, slots=True)
class TellDependents:
    """Hand DependencyEnded to the tasks that wait for this one."""

    succeeded: bool


@dataclass(frozen=True, slots=True)
class CancelChildren:
    """Hand CancelRequested to the tasks this one submitted."""

    reason: str


@dataclass(frozen=True, slots=True)
class CloseMailbox:
    """Bounce what is left in the mailbox `task/ID`."""

    reason: str


@dataclass(frozen=True, slots=True)
class TellAsker:
    """Tell the sidecar that has it what became of its agent's question."""

    lease: Lease
    agent_id: AgentId
    question: Question


@dataclass(frozen=True, slots=True)
class TellParent:
    """Hand ShareChanged to the task whose budget this one's is a part of."""


Effect = Publish | SendCancellation | TellDependents | CancelChildren | CloseMailbox | TellAsker | TellParent

"""What happened to tasks, as the store, the sidecars and the submitter saw it: the checker's only source."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.domain.agent import Agent
from controlplane.domain.caps import Caps
from controlplane.domain.task import FailureKind, Lease, Task


@dataclass(frozen=True)
class Saved:
    """The store took a version of a task."""

    at: float
    task: Task


@dataclass(frozen=True)
class Ended:
    """An agent came to the end of an attempt."""

    lease: Lease
    agent_id: str
    failure: FailureKind | None


@dataclass(frozen=True)
class Told:
    """A sidecar was told what became of its report of the end: taken, or refused."""

    lease: Lease
    taken: bool
    failure: FailureKind | None


@dataclass(frozen=True)
class Asked:
    """The submitter was told that a task is stored; `impossible` if no agent can do it."""

    task_id: str
    impossible: bool = False


@dataclass(frozen=True)
class Used:
    """An agent used so many tokens, which it had claimed."""

    lease: Lease
    tokens: int


Happening = Saved | Ended | Told | Asked | Used


@dataclass
class History:
    """Everything that was seen of one schedule, in order."""

    agents: dict[str, Agent] = field(default_factory=dict)
    caps: Caps = Caps()
    happenings: list[Happening] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """Crashes, bugs, leaks and things that did not come to rest."""

    def add(self, happening: Happening) -> None:
        self.happenings.append(happening)

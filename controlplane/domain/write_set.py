"""Which tasks may not run together, because both declared that they write the same files of a repository?

Tasks of one tenant on one repository whose declared sets overlap never run together: the one that is later in the queue waits.
One that declares nothing takes no part. A task and what it submitted itself, at whatever depth, are no hindrance to each other:
a parent that waits for its child would otherwise wait for ever.

What each set means is in `claude_conductor.write_set`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from claude_conductor.ids import TaskId, TenantId
from claude_conductor.write_set import MOST_CHARACTERS, MOST_PATTERNS, normal, overlap, problem
from controlplane.domain.task import Task, Workspace


@dataclass(frozen=True, slots=True)
class Claim:
    """What a task may write, and whose child it is."""

    task_id: TaskId
    tenant_id: TenantId
    place: str
    """The repository, however it was written."""
    patterns: tuple[str, ...]
    """Empty: it declared nothing, and is here as somebody's parent."""
    parent: str


def declared(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return a set in its normal form: each pattern once, in order, the whole repository alone."""
    found = tuple(sorted({normal(pattern) for pattern in patterns}))
    return ("**",) if "**" in found else found


def fault(patterns: tuple[str, ...], workspace: Workspace) -> str:
    """Return in one sentence why this cannot be the write set of a task with that workspace; empty if it can."""
    if not patterns:
        return ""
    if workspace.kind != "git":
        return "A write set names paths of a repository, and this task has none (--repo)."
    if len(patterns) > MOST_PATTERNS or sum(map(len, patterns)) > MOST_CHARACTERS:
        return f"A write set has at most {MOST_PATTERNS} paths and {MOST_CHARACTERS} characters; name folders instead of files."
    wrong = next((pattern for pattern in patterns if problem(pattern)), None)
    return f"{problem(wrong)} (`{wrong}`)" if wrong is not None else ""


def place_of(workspace: Workspace) -> str:
    """Return a name of the repository that is the same for the usual ways to write it. Links are not followed."""
    location = workspace.location.removeprefix("file://")
    if location.startswith("/"):
        location = posixpath.normpath(location)
    return location.rstrip("/").removesuffix(".git").rstrip("/")


def claim_of(task: Task) -> Claim:
    """Return what the task claims while an agent has it."""
    spec = task.spec
    place = place_of(spec.workspace) if spec.writes else ""
    return Claim(task.id, task.tenant_id, place, spec.writes, spec.parent_task_id)


class Writers:
    """The claims in force, and those of tasks whose turn it is and that wait for them."""

    def __init__(self, held: Mapping[TaskId, Claim] | None = None) -> None:
        """Begin with the claims of the tasks that agents have."""
        self._held = dict(held or {})
        self._waiting: list[Claim] = []

    def took(self, task: Task) -> None:
        """An agent was given the task."""
        self._held[task.id] = claim_of(task)

    def waits(self, task: Task) -> None:
        """The task could go but for its write set: whoever is later in the queue does not go before it and keep it waiting."""
        self._waiting.append(claim_of(task))

    def before(self, task: Task) -> tuple[Claim, str] | None:
        """Return a claim that keeps the task waiting, with the pattern of it that overlaps."""
        if not task.spec.writes:
            return None
        claim = claim_of(task)
        family = self._ancestors(claim)
        against = [other for other in self._held.values() if other.task_id not in family and other.task_id != task.id]
        if claim.parent not in self._held:  # who waits may wait for this parent: its children must not wait for who waits
            against += self._waiting
        for other in against:
            if (other.tenant_id, other.place) == (claim.tenant_id, claim.place) and (
                shared := overlap(claim.patterns, other.patterns)
            ):
                return other, shared
        return None

    def why(self, task: Task) -> str:
        """Return in one sentence whom the task waits for; empty if for nobody."""
        found = self.before(task)
        return f"waits for {found[0].task_id}, which writes {found[1]} too" if found is not None else ""

    def _ancestors(self, claim: Claim) -> set[str]:
        found: set[str] = set()
        parent = claim.parent
        while parent and parent not in found:
            found.add(parent)
            parent = self._held[TaskId(parent)].parent if parent in self._held else ""
        return found

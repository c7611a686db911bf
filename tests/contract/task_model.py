"""What should become of tasks? The promises of docs/design/tasks.md in dictionaries, without stores and services."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from controlplane.domain.task import FailureKind, Lease, State

FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.DEAD})
HELD = frozenset({State.LEASED, State.RUNNING, State.WAITING_FOR_HUMAN})
RETRIED = frozenset({FailureKind.EXIT_CODE, FailureKind.SIGNAL, FailureKind.STARTUP_TIMEOUT})
AGEING_SECONDS, MAX_LOSSES = 60.0, 5
"""As the design says; not taken from the code."""
FIRST_DELAY, MAX_DELAY = 2.0, 60.0
"""Of the tasks here; nothing spreads them."""


@dataclass
class ModelTask:
    """A task as it should be."""

    id: str
    priority: int
    attempts: int
    key: str
    created: float
    waits_for: set[str]
    not_before: float
    parent: str
    state: State = State.BLOCKED
    queued: float = 0.0
    lease: Lease | None = None
    agent: str = ""
    deadline: float = 0.0
    failures: int = 0
    losses: int = 0
    asked_to_end: bool = False
    question: str = ""
    answered: int = 0
    """Which option; 0: none."""

    @property
    def order(self) -> tuple[float, str]:
        """Its place in the queue."""
        return self.queued - AGEING_SECONDS * self.priority, self.id


@dataclass
class ModelAgent:
    """An agent as it should be. `has` is what its sidecar thinks it works on, which may be over."""

    has: Lease | None = None
    occupied: bool = False


@dataclass
class Model:
    """All tasks and agents. Times in seconds of the one clock there is."""

    lease_seconds: float
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    agents: dict[str, ModelAgent] = field(default_factory=dict)
    ended_by_report: set[tuple[str, int, str]] = field(default_factory=set)
    """(task, attempt, agent) of what was taken."""
    given: list[tuple[Lease, str]] = field(default_factory=list)
    """Every lease there ever was, and whose."""

    # --- submitting

    def with_key(self, key: str, now: float) -> ModelTask | None:
        """Return the task that a request id stands for."""
        found = [task for task in self.tasks.values() if key and task.key == key and task.created > now - 86_400]
        return found[-1] if found else None

    def submit(self, task: ModelTask, depends_on: list[str], now: float) -> None:
        self.tasks[task.id] = task
        task.waits_for = {other for other in depends_on if self.tasks[other].state is not State.SUCCEEDED}
        self._release(task, now)
        for other in sorted(task.waits_for):
            if self.tasks[other].state in FINAL:
                self._end(task, State.FAILED, now)
                break
        parent = self.tasks.get(task.parent)
        if parent is None or task.state in FINAL:
            return
        if parent.state is State.CANCELLED or (parent.asked_to_end and parent.state not in FINAL):
            self._end(task, State.CANCELLED, now)

    # --- the queue

    def free(self) -> list[str]:
        busy = {task.agent for task in self.tasks.values() if task.state in HELD}
        return [name for name, agent in self.agents.items() if name not in busy and not agent.occupied]

    def next(self) -> list[str]:
        """Return who goes next: as many as there are free agents, by priority with ageing."""
        queued = sorted((task for task in self.tasks.values() if task.state is State.QUEUED), key=lambda task: task.order)
        return [task.id for task in queued[: len(self.free())]]

    def hand_out(self, task_id: str, lease: Lease, agent: str, now: float) -> None:
        task = self.tasks[task_id]
        task.state, task.lease, task.agent, task.deadline = State.LEASED, lease, agent, now + self.lease_seconds
        self.agents[agent].has = lease
        self.given.append((lease, agent))

    def in_force(self, lease: Lease, agent: str) -> ModelTask | None:
        task = self.tasks[lease.task_id]
        return task if task.state in HELD and task.lease == lease and task.agent == agent else None

    # --- time

    def pass_time(self, now: float) -> None:
        """Take back leases whose time is over, then release what may begin."""
        for task in self.held():
            if task.deadline <= now:
                self.lose(task, now)
        for task in list(self.tasks.values()):
            if task.state is State.BLOCKED:
                self._release(task, now)

    def held(self) -> list[ModelTask]:
        return [task for task in self.tasks.values() if task.state in HELD]

    def lose(self, task: ModelTask, now: float) -> None:
        self.agents[task.agent].occupied = True
        task.losses += 1
        self._drop_lease(task)
        if task.asked_to_end:
            self._end(task, State.CANCELLED, now)
        elif task.losses >= MAX_LOSSES:
            self._end(task, State.DEAD, now)
        else:
            task.state = State.QUEUED  # at its old place

    # --- what agents and people say

    def complete(self, task: ModelTask, failure: FailureKind | None, now: float) -> None:
        assert task.lease is not None
        self.ended_by_report.add((task.id, task.lease.attempt, task.agent))
        self._drop_lease(task)
        if failure is None:
            self._end(task, State.SUCCEEDED, now)
        elif task.asked_to_end or failure is FailureKind.CANCELLED:
            self._end(task, State.CANCELLED, now)
        elif failure is FailureKind.TIMEOUT:
            self._end(task, State.TIMED_OUT, now)
        else:
            task.failures += 1
            if failure not in RETRIED:
                self._end(task, State.FAILED, now)
            elif task.failures >= task.attempts:
                self._end(task, State.DEAD, now)
            else:
                task.state = State.BLOCKED
                task.not_before = now + min(MAX_DELAY, FIRST_DELAY * 2 ** (task.failures - 1))

    def cancel(self, task: ModelTask, now: float) -> None:
        if task.state in HELD:
            task.asked_to_end = True
            self._cancel_children(task, now)
        else:
            self._end(task, State.CANCELLED, now)

    # --- what follows

    def _drop_lease(self, task: ModelTask) -> None:
        task.lease = None
        task.question = "" if task.state is State.WAITING_FOR_HUMAN else task.question

    def _release(self, task: ModelTask, now: float) -> None:
        if task.waits_for or task.not_before > now:
            task.state = State.BLOCKED
        else:
            task.state, task.queued = State.QUEUED, now

    def _end(self, task: ModelTask, state: State, now: float) -> None:
        task.state, task.lease = state, None
        for other in list(self.tasks.values()):
            if other.state is State.BLOCKED and task.id in other.waits_for:
                if state is State.SUCCEEDED:
                    other.waits_for.discard(task.id)
                    self._release(other, now)
                else:
                    self._end(other, State.FAILED, now)
        task.waits_for = set()
        if state is State.CANCELLED:
            self._cancel_children(task, now)

    def _cancel_children(self, task: ModelTask, now: float) -> None:
        for child in self._children(task):
            if child.state not in FINAL:
                self.cancel(child, now)

    def _children(self, task: ModelTask) -> Iterator[ModelTask]:
        return iter([other for other in self.tasks.values() if other.parent == task.id])

"""What a hook is, and what is known of a run while hooks work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent_sidecar.drivers.driver import AgentDriver, Answer, Command, TokenUse
from agent_sidecar.isolation.interface import Exit, Handle, Level, Limits, Stats
from agent_sidecar.run.life import Life
from agent_sidecar.run.lifecycle import Ending, Overdue, Phase, Revoked
from agent_sidecar.run.spending import Spent
from agent_sidecar.run.task import Assignment, InForce, Patch


@dataclass(slots=True)
class Run:
    """One attempt at one task, from its assignment to its report. Hooks read and fill it in."""

    assignment: Assignment
    run_id: str
    level: Level
    limits: Limits
    began: float
    """Monotonic seconds."""
    phase: Phase = Phase.PREPARING
    driver: AgentDriver | None = None
    command: Command | None = None
    workspace: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    bridges: dict[int, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    """Hosts the proxy beside the agent lets it reach; empty where there is none."""
    task_traceparent: str = ""
    """Of the span around the whole run."""
    traceparent: str = ""
    """Of the span the agent works in; empty before it does."""
    in_force: InForce | None = None
    handle: Handle | None = None
    exit: Exit | None = None
    answer: Answer | None = None
    tokens: TokenUse = field(default_factory=TokenUse)
    """What the agent itself says; used where the gateway counted nothing."""
    spent: Spent = field(default_factory=dict)
    """What the model gateway counted."""
    stats: Stats = field(default_factory=Stats)
    patch: Patch | None = None
    base_commit: str = ""
    kept: Path | None = None
    """Where its files are kept."""
    warnings: list[str] = field(default_factory=list)
    life: Life = field(default_factory=Life)
    stalled: bool = False
    limited_until: float = 0.0
    """Monotonic seconds until which the provider takes no requests, or none of this sidecar."""
    refused: bool = False
    """The last the provider had to say, or the gateway in its place, was that it takes no requests."""
    over_budget: str = ""
    """What of its budget was used up first, in words; empty while nothing is."""
    questions: int = 0
    """Of the agent to a human that are open."""
    succeeded: bool = False
    ending: Ending | None = None
    scope: asyncio.Timeout | None = None
    """Bounds the part of the run that may be cut short."""
    bound: Overdue = Overdue.STARTUP
    """What is over when the scope's time is."""
    printed: int = 0
    """Bytes of output that were handed over."""

    @contextmanager
    def asking(self, changed: asyncio.Event) -> Iterator[None]:
        """Take note of a question to a human, from its begin to its end; sets `changed` at both."""
        self.questions += 1
        changed.set()
        try:
            yield
        finally:
            self.questions -= 1
            changed.set()

    @contextmanager
    def unhurried(self, now: float) -> Iterator[None]:
        """Let a part of the start take as long as the task may; the time for the start stands still meanwhile.

        Args:
            now: Monotonic seconds.
        """
        scope, loop, bound = self.scope, asyncio.get_running_loop(), self.bound
        if scope is None or self.ending is not None:
            yield
            return
        began, due = loop.time(), scope.when() or loop.time()
        latest = began + self.assignment.timeout - (now - self.began)
        scope.reschedule(latest)
        self.bound = Overdue.TASK
        try:
            yield
        finally:
            if self.ending is None and not scope.expired():
                due += loop.time() - began
                self.bound = bound if due < latest else Overdue.TASK
                scope.reschedule(min(due, latest))

    def waits_for_human(self) -> bool:
        """Tell whether the agent works on nothing but the answer of a human."""
        return self.phase is Phase.RUNNING and self.questions > 0

    def end(self, ending: Ending) -> None:
        """Cut the run short. The first reason counts, but for a lost lease: nothing may be reported any more."""
        if self.ending is None or isinstance(ending, Revoked):
            self.ending = ending
        if self.scope is not None and not self.scope.expired():  # a second wish, or its time is just over: it ends already
            self.scope.reschedule(asyncio.get_running_loop().time())


class Hook(Protocol):
    """One concern of a run. `finish` is called exactly when `prepare` was, in reverse order, however the run ended."""

    name: str

    async def prepare(self, run: Run) -> None:
        """Do what has to be there before the agent's process. May be cancelled.

        Raises:
            ConductorError: The run cannot go on; decides the failure that is reported.
        """

    async def during(self, run: Run) -> None:
        """Do what has to be done while the process runs; cancelled when it is over."""

    async def finish(self, run: Run) -> None:
        """Take back what `prepare` did, and collect. Not cancelled; bounds its own waits.

        Raises:
            ConductorError: Something of the result is missing; makes the run a failure.
        """

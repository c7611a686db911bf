"""What every slot is: takes one task at a time and ends it when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent_sidecar.run.task import Assignment, Cancellation, Condition, InForce, Lease


class Slot(Protocol):
    """The working half of a sidecar, as the session sees it. Nothing in here waits."""

    @property
    def changed(self) -> asyncio.Event:
        """Set when the slot begins or ends something; cleared by who looks."""

    def assign(self, assignment: Assignment) -> None:
        """Begin a task. A repeat of the present lease changes nothing; a second task is reported as not run here."""

    def cancel(self, lease: Lease, cancellation: Cancellation) -> None:
        """End the task and report it; a lease that is not the present one is ignored."""

    def revoke(self, leases: Sequence[Lease]) -> None:
        """End the work on these leases and report nothing."""

    def leases(self) -> tuple[Lease, ...]:
        """Return what is worked on."""

    def condition(self) -> Condition:
        """Return what the slot does now."""

    def in_force(self) -> InForce | None:
        """Return the isolation around a long-running agent; None while there is none."""


class Desk(Protocol):
    """The same slot as the agent sees it through its socket."""

    @property
    def own_mailbox(self) -> str:
        """The mailbox the agent reads besides that of its task; empty for an agent that is started per task."""

    @property
    def present(self) -> Assignment | None:
        """The task the agent works on."""

    @property
    def present_in_force(self) -> InForce | None:
        """What is in force around it."""

    @property
    def traceparent(self) -> str:
        """Trace context of what the agent does now."""

    def calling(self) -> AbstractContextManager[None]:
        """Take note that the agent calls, until the call is answered."""

    def asking(self) -> AbstractContextManager[None]:
        """Take note that the agent asks a human about its present task, until it is answered.

        Raises:
            InvalidArgumentError: There is no present task.
        """

    async def progress(self, text: str) -> None:
        """Show a line of progress of the present task.

        Raises:
            StaleLeaseError: There is no present task.
        """

    async def next_task(self, wait: float) -> tuple[Assignment, str]:
        """Return the next task and its folder inside the sandbox; only for long-running agents.

        Raises:
            DeadlineExceededError: None came in `wait` seconds.
            InvalidArgumentError: This agent is started once per task.
        """

    async def complete_task(self, task_id: str, summary: str, failure: str | None) -> None:
        """End the present task of a long-running agent; returns once the end is journalled.

        Raises:
            StaleLeaseError: It is not the present task.
            InvalidArgumentError: This agent is started once per task.
        """

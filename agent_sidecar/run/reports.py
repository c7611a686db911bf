"""What a run tells about itself: the one way out for progress, output and result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent_sidecar.egress.tally import Counted
from agent_sidecar.run.task import Amount, InForce, Lease, Result, Usage


class Reports(Protocol):
    """Takes reports. A report that was taken is journalled and reaches the control plane, whatever is killed in between."""

    async def started(self, lease: Lease, in_force: InForce) -> None:
        """Say that the agent's process runs."""

    async def progress(self, lease: Lease, text: str, usage: Usage) -> None:
        """Show one line of progress; it may be dropped."""

    async def used(self, lease: Lease, usage: Usage) -> None:
        """Tell the use so far; it may be dropped."""

    async def claim(self, lease: Lease, usage: Usage, amount: Amount, seconds: float) -> None:
        """Ask for an amount of the task's budget, in place of what was asked for before.

        Raises:
            BudgetExhaustedError: There is less left; nothing changed.
            ControlPlaneUnavailableError: There was no answer within these seconds.
        """

    async def claimed(self, lease: Lease, usage: Usage, amount: Amount) -> None:
        """Tell of an amount that is no larger than the last one; it may be dropped."""

    async def rate_limited(self, lease: Lease, seconds: float, why: str, credential: str) -> None:
        """Say that the model provider takes no requests for some seconds.

        Args:
            lease: Of the attempt.
            seconds: From now.
            why: For people.
            credential: Id of the key the provider said it about; empty where only a turn is waited for.
        """

    async def rate_limit_ended(self, lease: Lease) -> None:
        """Say that it takes them again."""

    async def reached(self, lease: Lease, decisions: Sequence[Counted]) -> None:
        """Say what the agent's proxy decided; at most 200 at a time."""

    async def output(self, lease: Lease, stream: str, offset: int, data: bytes) -> bool:
        """Hand over live output, waiting while the control plane is slower than the agent.

        Returns:
            False if it was dropped because the journal is full; the offset then shows the gap.
        """

    async def completed(self, lease: Lease, result: Result) -> None:
        """End the attempt; returns once that is journalled. Once per lease."""


class Mailboxes(Protocol):
    """Who reads which mailbox."""

    async def closed(self, mailbox: str) -> None:
        """Nobody reads this mailbox any more: its task has ended."""

    async def new_process(self, mailbox: str, last_error: str = "") -> None:
        """A new agent process reads this mailbox: what an earlier one, which ended so, did not acknowledge is offered again."""

"""What may the services say to a connected sidecar?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.domain.message import StoredFrame
from controlplane.domain.question import Question
from controlplane.domain.task import FailureKind, Lease, Task


class Link(Protocol):
    """The way to one connected sidecar. Nothing here waits or fails: what cannot be sent now is queued, within bounds.

    Frames other than deliveries go first, so an assignment is seen before the messages of its mailbox.
    """

    @property
    def room(self) -> int:
        """Bytes of deliveries that may be queued now; 0 or less means: not now. `Mail.link_has_room` is called when it grows."""

    def deliver(self, frame: StoredFrame, after_position: int) -> None:
        """Queue a frame, without the messages that are settled or at or below `after_position`."""

    def assign(self, task: Task, traceparent: str) -> None:
        """Hand over a leased task."""

    def cancel(self, lease: Lease, grace: float, reason: str, kind: FailureKind) -> None:
        """Ask for the end of a task. `grace` in seconds."""

    def revoke(self, leases: Sequence[Lease]) -> None:
        """Tell that leases are no longer valid."""

    def close_question(self, lease: Lease, question: Question) -> None:
        """Tell what became of the agent's question. Harmless where nobody waits for it."""

    def hold(self, credential: str, reset: float, turn: float) -> None:
        """Tell that a credential takes no requests. `reset` and `turn` (when this sidecar may ask again) in seconds from now."""

    def move(self, deadline: float) -> None:
        """Tell that this stream ends within `deadline` seconds."""

    def end(self, reason: str) -> None:
        """End the session. Ending twice is harmless."""

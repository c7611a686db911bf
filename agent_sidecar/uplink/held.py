"""What is beside the agent now, and what of it may be shown next? In memory; the journal is told elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeAlias

from agent_sidecar.uplink import inbound
from agent_sidecar.uplink.inbound import NEVER, Item

Place: TypeAlias = tuple[str, Item]
"""(mailbox, message)."""


class Held:
    """Messages that wait for the agent or for its acknowledgement, and ephemeral ones until they are shown.

    Args:
        most_passing: Ephemeral messages; beyond it the oldest is dropped.
    """

    def __init__(self, most_passing: int) -> None:
        self._boxes: dict[str, dict[int, Item]] = {}
        self._passing: deque[Place] = deque(maxlen=most_passing)
        """Ephemeral messages: position 0, no receipts, gone with the process."""
        self._next_expiry = NEVER
        """Nothing unseen expires before; milliseconds since the epoch."""
        self._messages = 0
        self._bytes = 0

    @property
    def size(self) -> tuple[int, int]:
        """Messages and bytes, ephemeral ones included."""
        passing = sum(len(item.envelope) for _, item in self._passing)
        return self._messages + len(self._passing), self._bytes + passing

    def put(self, mailbox: str, item: Item) -> None:
        """Take a message; those of a mailbox come in the order of their positions."""
        self._next_expiry = min(self._next_expiry, item.expire_ms or NEVER)
        if not item.position:
            self._passing.append((mailbox, item))
            return
        self._boxes.setdefault(mailbox, {})[item.position] = item
        self._messages += 1
        self._bytes += len(item.envelope)

    def drop(self, mailbox: str, position: int) -> None:
        """Forget a message, if it is here."""
        item = self._boxes.get(mailbox, {}).pop(position, None)
        if item is not None:
            self._messages -= 1
            self._bytes -= len(item.envelope)

    def drop_mailbox(self, mailbox: str) -> None:
        """Forget a mailbox and everything in it."""
        for position in list(self._boxes.get(mailbox, {})):
            self.drop(mailbox, position)
        self._boxes.pop(mailbox, None)
        self._keep_passing(pair for pair in self._passing if pair[0] != mailbox)

    def drop_shown(self) -> None:
        """Forget the ephemeral messages that were shown: nobody acknowledges them."""
        self._keep_passing(pair for pair in self._passing if not pair[1].seen)

    def holds(self, mailbox: str, position: int) -> bool:
        """Return whether there is a message at this position."""
        return position in self._boxes.get(mailbox, {})

    def has(self, mailbox: str, item: Item) -> bool:
        """Return whether this very message can still be shown."""
        return not item.position or self._boxes.get(mailbox, {}).get(item.position) is item

    def seen(self, mailbox: str) -> list[Item]:
        """Return what was shown and is not acknowledged, in order."""
        return [item for item in self._boxes.get(mailbox, {}).values() if item.seen]

    def show_again(self, items: Sequence[Item]) -> None:
        """Have messages pass for unseen; they expire again, too."""
        self._next_expiry = 0
        for item in items:
            item.seen = False

    def offered(self) -> Iterator[Place]:
        """Yield what may be shown, in order: behind a message that an earlier process failed at, nothing of the same sender."""
        return chain(inbound.offered(self._boxes), (pair for pair in self._passing if not pair[1].seen))

    def answers(self, message_id: str) -> Iterator[Place]:
        """Yield what answers a message, seen or not."""
        return (pair for pair in chain(self._stored(), self._passing) if pair[1].answers == message_id)

    def expire(self, now_ms: int) -> list[tuple[str, int]] | None:
        """Forget what nobody has seen and whose time is over; return where it was journalled, None if it is too early to look."""
        if now_ms < self._next_expiry:
            return None
        over = list(inbound.over(self._boxes, now_ms))
        for mailbox, position in over:
            self.drop(mailbox, position)
        self._keep_passing(pair for pair in self._passing if pair[1].seen or not 0 < pair[1].expire_ms <= now_ms)
        left = (item for _, item in chain(self._stored(), self._passing))
        self._next_expiry = min((item.expire_ms for item in left if item.expire_ms and not item.seen), default=NEVER)
        return over

    def _stored(self) -> Iterator[Place]:
        return ((mailbox, item) for mailbox, box in self._boxes.items() for item in box.values())

    def _keep_passing(self, kept: Iterator[Place]) -> None:
        self._passing = deque(kept, self._passing.maxlen)

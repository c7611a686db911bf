"""What are watchers told about messages?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from claude_conductor import ids
from claude_conductor.clock import Clock
from claude_conductor.ids import TenantId
from controlplane.domain.events import Event
from controlplane.domain.message import Record
from controlplane.service.watch import Watch

_SAY: Final = {
    "message.redriven": "was dead and is sent again",
    "message.purged": "was dead and is removed",
}
"""What is said of messages that somebody did something about."""


class MessageNews:
    """Publishes the ends of messages that nobody acknowledged, and what was done about them."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        self._watch = watch
        self._clock = clock

    def tell(self, kind: str, records: Sequence[Record], **more: str) -> None:
        """Publish an event such as `message.bounced` for each record; `more` is added to its details."""
        for record in records:
            tenant, _, name = record.mailbox.partition("/")
            details = {"message_id": ids.message_id(record.message_id), "sender": record.sender, "recipient": name}
            details |= {key: value for key, value in more.items() if value}
            summary = f"a message from {record.sender} to {name} {_SAY.get(kind, f'is {record.state.value}')}: {record.reason}"
            task_id = name.removeprefix("task/") if name.startswith("task/") else ""
            agent_id = "" if task_id else name
            self._watch.publish(Event(kind, self._clock.now(), summary, TenantId(tenant), task_id, agent_id, details))

"""What are watchers told about messages?"""

from __future__ import annotations

from collections.abc import Sequence

from claude_conductor import ids
from claude_conductor.clock import Clock
from claude_conductor.ids import TenantId
from controlplane.domain.events import Event
from controlplane.domain.message import Record
from controlplane.service.watch import Watch


class MessageNews:
    """Publishes the ends of messages that nobody acknowledged."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        self._watch = watch
        self._clock = clock

    def tell(self, kind: str, records: Sequence[Record]) -> None:
        """Publish an event such as `message.bounced` for each record."""
        for record in records:
            tenant, _, name = record.mailbox.partition("/")
            details = {"message_id": ids.message_id(record.message_id), "sender": record.sender, "recipient": name}
            summary = f"a message from {record.sender} to {name} is {record.state.value}: {record.reason}"
            task_id = name.removeprefix("task/") if name.startswith("task/") else ""
            agent_id = "" if task_id else name
            self._watch.publish(Event(kind, self._clock.now(), summary, TenantId(tenant), task_id, agent_id, details))

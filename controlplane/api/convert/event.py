"""How do events travel?"""

from __future__ import annotations

from claude_conductor.v1 import event_pb2 as pb
from controlplane.api.convert.values import timestamp
from controlplane.domain.events import Event
from controlplane.service.watch import Gap


def event_to_proto(event: Event) -> pb.Event:
    """Return the event as watchers see it."""
    return pb.Event(
        cursor=event.cursor,
        time=timestamp(event.time),
        type=event.type,
        tenant_id=event.tenant_id,
        task_id=event.task_id,
        agent_id=event.agent_id,
        summary=event.summary,
        details=event.details,
    )


def gap_to_proto(gap: Gap) -> pb.Gap:
    """Return the gap; `from` is a keyword of Python, not of the protocol."""
    return pb.Gap(**{"from": gap.first, "to": gap.last})

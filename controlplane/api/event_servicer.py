"""How does EventService answer?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from claude_conductor.v1 import event_service_pb2 as pb
from claude_conductor.v1.event_service_pb2_grpc import EventServiceServicer
from controlplane.api.convert.event import event_to_proto, gap_to_proto
from controlplane.api.guard.caller import current_caller
from controlplane.service.watch import Gap, Wanted, Watch

_LARGEST = (1 << 63) - 1
Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class WatchServicer(EventServiceServicer):
    """Serves EventService."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def WatchEvents(self, request: pb.WatchEventsRequest, context: Context) -> AsyncIterator[pb.WatchEventsResponse]:
        """Yield events from a cursor on, without end."""
        await context.send_initial_metadata(())
        cursor = min(request.after_cursor, _LARGEST) if request.HasField("after_cursor") else None
        wanted = Wanted(current_caller().tenant_id, tuple(request.type_prefixes), request.task_id)
        async for item in self._watch.follow(cursor, wanted):
            if isinstance(item, Gap):
                yield pb.WatchEventsResponse(gap=gap_to_proto(item))
            else:
                yield pb.WatchEventsResponse(event=event_to_proto(item))

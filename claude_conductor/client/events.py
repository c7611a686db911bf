"""What happens, as it happens?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from claude_conductor.client.call import Caller
from claude_conductor.v1 import event_service_pb2, event_service_pb2_grpc


class Events:
    """The log of what happened."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = event_service_pb2_grpc.EventServiceStub(caller.channel)

    async def watch(
        self, *, after: int | None = None, types: Sequence[str] = (), task_id: str = ""
    ) -> AsyncGenerator[event_service_pb2.WatchEventsResponse, None]:
        """Yield events and gaps without end, each once, over restarts of the control plane; stop iterating to end it.

        Args:
            after: Only events after this cursor; None means only new ones, 0 all that are kept.
            types: Only types that begin with one of these.
            task_id: Only events about this task.

        Raises:
            ControlPlaneUnavailableError: It stayed away for 30 s.
        """
        cursor = event_service_pb2.WatchEventsRequest(after_cursor=after, type_prefixes=types, task_id=task_id)
        while True:
            async with aclosing(self._caller.resume(self._stub.WatchEvents, lambda: cursor)) as answers:
                async for answer in answers:
                    cursor.after_cursor = answer.event.cursor if answer.HasField("event") else answer.gap.to
                    yield answer

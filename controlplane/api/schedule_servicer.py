"""How does ScheduleService answer?"""

from __future__ import annotations

from typing import TypeAlias

import grpc

from claude_conductor.v1 import schedule_service_pb2 as pb
from claude_conductor.v1.schedule_service_pb2_grpc import ScheduleServiceServicer
from controlplane.api.convert.schedule import overlap_from_proto, schedule_to_proto
from controlplane.api.convert.task import Defaults, check_size, spec_from_proto, task_to_proto
from controlplane.api.guard.caller import current_caller
from controlplane.api.guard.interceptors import current_traceparent
from controlplane.api.paging import after_token_text, page_size, token_for
from controlplane.interfaces.schedule_store import ScheduleStore
from controlplane.service.kinds import Kinds
from controlplane.service.schedules import Schedules

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_PAGE_BYTES = 2 << 20
"""Of a page with more than one schedule: prompts are large, and clients read 4 MiB at once."""


class PlanServicer(ScheduleServiceServicer):
    """Serves ScheduleService."""

    def __init__(self, store: ScheduleStore, schedules: Schedules, defaults: Defaults, kinds: Kinds) -> None:
        self._store = store
        self._schedules = schedules
        self._defaults = defaults
        self._kinds = kinds

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, context: Context) -> pb.CreateScheduleResponse:
        """Store a schedule."""
        del context
        caller, asked = current_caller(), request.schedule
        check_size(asked.spec)
        spec = spec_from_proto(asked.spec, self._defaults, self._kinds.named(asked.spec.type))
        overlap = overlap_from_proto(asked.overlap)
        stored = await self._schedules.create(
            caller.tenant_id, caller.name, asked.name, asked.cron, asked.time_zone or "UTC", overlap, spec
        )
        return pb.CreateScheduleResponse(schedule=schedule_to_proto(stored))

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        """Return one schedule."""
        del context
        found = await self._store.get(current_caller().tenant_id, request.schedule)
        return pb.GetScheduleResponse(schedule=schedule_to_proto(found))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Context) -> pb.ListSchedulesResponse:
        """Return a page of schedules."""
        del context
        size = page_size(request.page_size)
        found = await self._store.list(current_caller().tenant_id, after_token_text(request.page_token), size + 1)
        answer = pb.ListSchedulesResponse()
        for schedule in found[:size]:
            shown = schedule_to_proto(schedule)
            if answer.schedules and answer.ByteSize() + shown.ByteSize() > _PAGE_BYTES:
                break
            answer.schedules.append(shown)
        if len(answer.schedules) < len(found):
            answer.next_page_token = token_for(answer.schedules[-1].name.encode())
        return answer

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, context: Context) -> pb.PauseScheduleResponse:
        """Let it fire nothing."""
        del context
        paused = await self._schedules.pause(current_caller().tenant_id, request.schedule)
        return pb.PauseScheduleResponse(schedule=schedule_to_proto(paused))

    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, context: Context) -> pb.ResumeScheduleResponse:
        """Let it fire again."""
        del context
        resumed = await self._schedules.resume(current_caller().tenant_id, request.schedule)
        return pb.ResumeScheduleResponse(schedule=schedule_to_proto(resumed))

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Context) -> pb.DeleteScheduleResponse:
        """Forget it."""
        del context
        deleted = await self._schedules.delete(current_caller().tenant_id, request.schedule)
        return pb.DeleteScheduleResponse(schedule=schedule_to_proto(deleted))

    async def RunSchedule(self, request: pb.RunScheduleRequest, context: Context) -> pb.RunScheduleResponse:
        """Submit its task."""
        del context
        tenant_id = current_caller().tenant_id
        task = await self._schedules.run(tenant_id, request.schedule, request.request_id, current_traceparent())
        return pb.RunScheduleResponse(task=task_to_proto(task))

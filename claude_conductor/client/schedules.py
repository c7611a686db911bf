"""What can be asked of the schedules?"""

from __future__ import annotations

from claude_conductor.client.call import Caller
from claude_conductor.v1 import schedule_pb2, schedule_service_pb2, schedule_service_pb2_grpc, task_pb2


class Schedules:
    """Tasks that are submitted again and again. A schedule is named by its name or its id."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = schedule_service_pb2_grpc.ScheduleServiceStub(caller.channel)

    async def create(self, schedule: schedule_pb2.Schedule) -> schedule_pb2.Schedule:
        """Store a schedule; it is durable when this returns. The same again returns the stored one.

        Raises:
            InvalidArgumentError, TaskNotFoundError, SettingsError: It would be refused, or would never fire.
            ScheduleExistsError: Another one has its name.
        """
        request = schedule_service_pb2.CreateScheduleRequest(schedule=schedule)
        return (await self._caller.unary(self._stub.CreateSchedule, request)).schedule

    async def get(self, name: str) -> schedule_pb2.Schedule:
        """Return a schedule.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        return (await self._caller.unary(self._stub.GetSchedule, schedule_service_pb2.GetScheduleRequest(schedule=name))).schedule

    async def list(self) -> list[schedule_pb2.Schedule]:
        """Return every schedule, by name, over as many pages as it takes."""
        found: list[schedule_pb2.Schedule] = []
        token = ""
        while True:
            request = schedule_service_pb2.ListSchedulesRequest(page_size=1000, page_token=token)
            answer = await self._caller.unary(self._stub.ListSchedules, request)
            found += answer.schedules
            token = answer.next_page_token
            if not token:
                return found

    async def pause(self, name: str) -> schedule_pb2.Schedule:
        """Let a schedule fire nothing until it is resumed.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        request = schedule_service_pb2.PauseScheduleRequest(schedule=name)
        return (await self._caller.unary(self._stub.PauseSchedule, request)).schedule

    async def resume(self, name: str) -> schedule_pb2.Schedule:
        """Let a schedule fire again, from now on.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        request = schedule_service_pb2.ResumeScheduleRequest(schedule=name)
        return (await self._caller.unary(self._stub.ResumeSchedule, request)).schedule

    async def delete(self, name: str) -> schedule_pb2.Schedule:
        """Forget a schedule and return it; its tasks stay.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        request = schedule_service_pb2.DeleteScheduleRequest(schedule=name)
        return (await self._caller.unary(self._stub.DeleteSchedule, request)).schedule

    async def run(self, name: str, *, request_id: str = "") -> task_pb2.Task:
        """Submit the task of a schedule now, and return it.

        Args:
            name: Of the schedule.
            request_id: Idempotency key, at most 64 characters: the same one returns the same task for 24 h. Empty: none.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        request = schedule_service_pb2.RunScheduleRequest(schedule=name, request_id=request_id)
        return (await self._caller.unary(self._stub.RunSchedule, request)).task

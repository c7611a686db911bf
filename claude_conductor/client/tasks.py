"""What can be asked of the task queue?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from google.protobuf.duration_pb2 import Duration

from claude_conductor.client.call import Caller
from claude_conductor.errors import DeadlineExceededError
from claude_conductor.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

FINAL: Final = frozenset(
    (
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
        task_pb2.TASK_STATE_TIMED_OUT,
        task_pb2.TASK_STATE_DEAD,
    )
)
"""States a task never leaves."""

_MANY_SECONDS: Final = 30.0


def duration(seconds: float) -> Duration:
    """Return seconds as the message that travels."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


class Tasks:
    """The task queue."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = task_service_pb2_grpc.TaskServiceStub(caller.channel)

    async def submit(self, spec: task_pb2.TaskSpec, *, request_id: str = "", traceparent: str = "") -> task_pb2.Task:
        """Store a task; it is durable when this returns.

        Args:
            spec: What to do.
            request_id: Idempotency key, 1 to 128 characters: the same one returns the same task for 24 h. Empty: none.
            traceparent: W3C trace context the task belongs to.

        Raises:
            InvalidArgumentError, IdempotencyConflictError, TaskNotFoundError: of the control plane.
        """
        request = task_service_pb2.SubmitTaskRequest(request_id=request_id, spec=spec)
        return (await self._caller.unary(self._stub.SubmitTask, request, traceparent=traceparent)).task

    async def submit_all(
        self, tasks: Sequence[task_service_pb2.TaskSubmission], *, traceparent: str = "", timeout: float = _MANY_SECONDS
    ) -> list[str]:
        """Store several tasks, all of them or none; return their ids, in order, once they are durable.

        Args:
            tasks: 1 to 1000, at most 2 MiB in all. Each may come `after` others of them, named by their places from 0.
            traceparent: W3C trace context they belong to.
            timeout: Seconds at most. When they are over, the tasks may be stored or not; request ids make asking again safe.

        Raises:
            ConductorError: As `submit`; the detail `task` is the place of the one that was refused.
        """
        request = task_service_pb2.SubmitTasksRequest(tasks=tasks)
        answer = await self._caller.unary(self._stub.SubmitTasks, request, timeout=timeout, traceparent=traceparent)
        return list(answer.task_ids)

    async def check(self, spec: task_pb2.TaskSpec) -> task_pb2.TaskSpec:
        """Return what would be stored if this were submitted: the defaults of its type and of the server filled in.

        Raises:
            InvalidArgumentError, TaskNotFoundError, SettingsError: It would be refused.
        """
        return (await self._caller.unary(self._stub.CheckTask, task_service_pb2.CheckTaskRequest(spec=spec))).spec

    async def types(self) -> list[task_pb2.TaskType]:
        """Return the types a task can have, by name."""
        return list((await self._caller.unary(self._stub.ListTaskTypes, task_service_pb2.ListTaskTypesRequest())).types)

    async def get(self, task_id: str) -> task_pb2.Task:
        """Return a task by its id or by a prefix of it that only it has.

        Raises:
            TaskNotFoundError: There is none.
        """
        return (await self._caller.unary(self._stub.GetTask, task_service_pb2.GetTaskRequest(task_id=task_id))).task

    async def page(
        self,
        *,
        size: int = 100,
        token: str = "",
        states: Sequence[task_pb2.TaskState.ValueType] = (),
        parent_task_id: str = "",
        labels: Mapping[str, str] | None = None,
        active_since: float | None = None,
    ) -> tuple[list[task_pb2.Task], str]:
        """Return up to `size` tasks, newest first, and the token of the next page (empty: this was the last).

        Those that ended before `active_since` (seconds since the epoch) are left out.
        """
        request = task_service_pb2.ListTasksRequest(
            page_size=size, page_token=token, states=states, parent_task_id=parent_task_id, labels=labels
        )
        if active_since is not None:
            request.active_since_time.FromNanoseconds(round(active_since * 1e9))
        answer = await self._caller.unary(self._stub.ListTasks, request)
        return list(answer.tasks), answer.next_page_token

    async def list(
        self,
        *,
        limit: int = 1000,
        states: Sequence[task_pb2.TaskState.ValueType] = (),
        parent_task_id: str = "",
        labels: Mapping[str, str] | None = None,
        active_since: float | None = None,
    ) -> list[task_pb2.Task]:
        """Return up to `limit` tasks, newest first, over as many pages as it takes."""
        found: list[task_pb2.Task] = []
        token = ""
        while len(found) < limit:
            size = min(1000, limit - len(found))
            tasks, token = await self.page(
                size=size, token=token, states=states, parent_task_id=parent_task_id, labels=labels, active_since=active_since
            )
            found += tasks
            if not token:
                break
        return found

    async def cancel(self, task_id: str, *, reason: str = "", grace: float | None = None) -> task_pb2.Task:
        """End a task and its children; it becomes CANCELLED once its agent has ended. Repeating it is harmless.

        Args:
            task_id: Which.
            reason: Shown to people.
            grace: Seconds between TERM and KILL; None means the server's 5 s.

        Raises:
            TaskNotFoundError: There is none.
            IllegalTransitionError: It is final already.
        """
        request = task_service_pb2.CancelTaskRequest(
            task_id=task_id, reason=reason, grace=None if grace is None else duration(grace)
        )
        return (await self._caller.unary(self._stub.CancelTask, request)).task

    async def answer(
        self, task_id: str, text: str = "", *, option: int = 0, question_id: str = "", request_id: str = ""
    ) -> task_pb2.Task:
        """Answer the open question of a task, `Task.question`; its agent goes on with the answer. The first one counts.

        Args:
            task_id: Which task.
            text: In words; may be empty beside an option.
            option: Number of the chosen option, from 1; 0 for none. An approval needs one: 1 approves, 2 denies.
            question_id: Which question; empty: the open one, whichever that is.
            request_id: Idempotency key: repeating the same answer with it is harmless.

        Raises:
            TaskNotFoundError: There is none.
            IllegalTransitionError: That question is not open (any more).
            InvalidArgumentError: The answer does not fit the question.
        """
        request = task_service_pb2.AnswerTaskRequest(
            request_id=request_id, task_id=task_id, question_id=question_id, text=text, option=option
        )
        return (await self._caller.unary(self._stub.AnswerTask, request)).task

    async def record_landing(self, task_id: str, landing: task_pb2.Landing) -> task_pb2.Task:
        """Say what became of a task's patch on its way to a branch; a repeat is harmless.

        Raises:
            TaskNotFoundError: There is none.
            IllegalTransitionError: It did not succeed.
        """
        request = task_service_pb2.RecordLandingRequest(task_id=task_id, landing=landing)
        return (await self._caller.unary(self._stub.RecordLanding, request)).task

    async def watch(self, task_id: str) -> AsyncGenerator[task_pb2.Task, None]:
        """Yield the task as it is now and after every change, until it is final; goes on over a restart of the control plane.

        Raises:
            TaskNotFoundError: There is none.
            ControlPlaneUnavailableError: It stayed away for 30 s.
        """
        seen = -1
        request = task_service_pb2.WatchTaskRequest(task_id=task_id)
        async with aclosing(self._caller.resume(self._stub.WatchTask, lambda: request)) as answers:
            async for answer in answers:
                if answer.task.version > seen or answer.task.state in FINAL:
                    seen = answer.task.version
                    yield answer.task
                if answer.task.state in FINAL:
                    return

    async def wait(self, task_id: str, *, timeout: float | None = None) -> task_pb2.Task:
        """Return the task once it is final.

        Args:
            task_id: Which.
            timeout: Seconds; None: as long as the task's own time-out and retries allow.

        Raises:
            TaskNotFoundError: There is none.
            DeadlineExceededError: It is not final yet; it goes on.
        """
        try:
            async with asyncio.timeout(timeout), aclosing(self.watch(task_id)) as changes:
                async for task in changes:
                    if task.state in FINAL:
                        return task
        except TimeoutError as cause:
            raise DeadlineExceededError("The task has not ended yet; it goes on.", task_id=task_id, seconds=timeout) from cause
        return await self.get(task_id)

    async def output(
        self, task_id: str, *, attempt: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[task_service_pb2.ReadTaskOutputResponse, None]:
        """Yield the agent's output; with `follow`, until the task is final, over restarts of the control plane.

        Args:
            task_id: Which.
            attempt: Which hand-out; 0 means the newest.
            offset: Bytes to skip.
            follow: Wait for more.

        Raises:
            TaskNotFoundError: There is none.
        """
        cursor = task_service_pb2.ReadTaskOutputRequest(task_id=task_id, attempt=attempt, offset=offset, follow=follow)
        async with aclosing(self._caller.resume(self._stub.ReadTaskOutput, lambda: cursor)) as pieces:
            async for piece in pieces:
                cursor.offset = piece.next_offset
                cursor.attempt = piece.attempt or cursor.attempt
                yield piece

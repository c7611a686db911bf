"""How does TaskService answer?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TypeAlias

import grpc

from claude_conductor.errors import InvalidArgumentError, PermissionDeniedError
from claude_conductor.v1 import event_pb2, task_pb2
from claude_conductor.v1 import task_service_pb2 as pb
from claude_conductor.v1.task_service_pb2_grpc import TaskServiceServicer
from controlplane.api.convert.landing import landing_from_proto
from controlplane.api.convert.task import (
    SPEC_BYTES,
    Defaults,
    check_size,
    spec_from_proto,
    spec_to_proto,
    states_from_proto,
    task_to_proto,
    type_to_proto,
)
from controlplane.api.convert.values import seconds_of, span_of
from controlplane.api.guard.caller import Caller, current_caller
from controlplane.api.guard.interceptors import current_traceparent
from controlplane.api.paging import after_token_text, page_size, token_for
from controlplane.domain.identity import Role
from controlplane.domain.question import Answer
from controlplane.domain.task import IsolationLevel, Spec, Task
from controlplane.domain.task_type import TaskType
from controlplane.interfaces.task_store import TaskFilter, TaskStore
from controlplane.service.intake import Intake, Submission, Wanted, naming
from controlplane.service.kinds import Kinds
from controlplane.service.leases import Leases
from controlplane.service.output import Output
from controlplane.service.pulse import Pulse
from controlplane.service.waiting import Waiting

_GRACE = 5.0
_PAGE_BYTES = 2 << 20
"""Of a page with more than one task: prompts, questions and their answers are large, and clients read 4 MiB at once."""
_TASKS = 1000
"""In one request."""
_IN_ONE_GO = 64
"""Tasks that are read before other calls get their turn."""
Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class TaskQueueServicer(TaskServiceServicer):
    """Serves TaskService."""

    def __init__(
        self,
        store: TaskStore,
        intake: Intake,
        leases: Leases,
        output: Output,
        changed: Pulse,
        waiting: Waiting,
        defaults: Defaults,
        kinds: Kinds,
    ) -> None:
        self._store = store
        self._intake = intake
        self._leases = leases
        self._output = output
        self._changed = changed
        self._waiting = waiting
        self._defaults = defaults
        self._kinds = kinds

    async def SubmitTask(self, request: pb.SubmitTaskRequest, context: Context) -> pb.SubmitTaskResponse:
        """Store a task."""
        del context
        caller = current_caller()
        check_size(request.spec)
        asked = task_pb2.TaskSpec()
        asked.CopyFrom(request.spec)
        if caller.role is Role.SIDECAR:
            asked.parent_task_id = self._parent(caller, asked.parent_task_id)
        spec = self._spec(asked, caller)
        submission = Submission(caller.tenant_id, caller.name, request.request_id, spec, current_traceparent())
        task = await self._intake.submit(submission)
        return pb.SubmitTaskResponse(task=self._shown(task))

    async def SubmitTasks(self, request: pb.SubmitTasksRequest, context: Context) -> pb.SubmitTasksResponse:
        """Store several tasks."""
        del context
        if not 0 < len(request.tasks) <= _TASKS:
            raise InvalidArgumentError(f"A request has 1 to {_TASKS} tasks.", field="tasks", tasks=len(request.tasks))
        if request.ByteSize() > SPEC_BYTES:
            raise InvalidArgumentError(
                "Tasks that are submitted together have at most 2 MiB; send several requests.", field="tasks"
            )
        caller, traceparent = current_caller(), current_traceparent()
        kinds: dict[str, TaskType] = {}
        wanted: list[Wanted] = []
        for place, each in enumerate(request.tasks):
            with naming(place):
                if any(other >= place for other in each.after):
                    raise InvalidArgumentError("A task comes after tasks that stand before it.", field=f"tasks[{place}].after")
                if (name := each.spec.type) not in kinds:
                    kinds[name] = self._kinds.named(name)
                spec = spec_from_proto(each.spec, self._defaults, kinds[name])
            submission = Submission(caller.tenant_id, caller.name, each.request_id, spec, traceparent)
            within = each.within if each.HasField("within") else None
            wanted.append(Wanted(submission, tuple(each.after), within))
            if not len(wanted) % _IN_ONE_GO:
                await asyncio.sleep(0)
        return pb.SubmitTasksResponse(task_ids=await self._intake.submit_all(wanted))

    async def CheckTask(self, request: pb.CheckTaskRequest, context: Context) -> pb.CheckTaskResponse:
        """Say whether a task could be stored."""
        del context
        caller = current_caller()
        check_size(request.spec)
        submission = Submission(caller.tenant_id, caller.name, "", self._spec(request.spec, caller))
        return pb.CheckTaskResponse(spec=spec_to_proto(await self._intake.examine(submission)))

    async def ListTaskTypes(self, request: pb.ListTaskTypesRequest, context: Context) -> pb.ListTaskTypesResponse:
        """Return the types of tasks."""
        del request, context
        return pb.ListTaskTypesResponse(types=[type_to_proto(kind) for kind in self._kinds.all()])

    def _spec(self, asked: task_pb2.TaskSpec, caller: Caller) -> Spec:
        kind = self._kinds.named(asked.type)
        if caller.role is Role.SIDECAR and kind.isolation_level is not IsolationLevel.STRICT:
            kind = replace(kind, isolation_level=None)  # a subtask gets what its parent has, never less by way of its type
        return spec_from_proto(asked, self._defaults, kind)

    def _parent(self, caller: Caller, asked: str) -> str:
        """Return the task an agent submits for: one that it works on, whatever it says."""
        held = [held.lease.task_id for held in self._leases.of_agent(caller.tenant_id, caller.agent_id)]
        if not held or (asked and asked not in held):
            raise PermissionDeniedError("An agent submits tasks only as children of the task it works on.", parent_task_id=asked)
        return asked or held[0]

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        """Return one task."""
        del context
        task = await self._store.get(current_caller().tenant_id, request.task_id)
        shown = task_to_proto(task)
        shown.reason = await self._waiting.explain(task)
        return pb.GetTaskResponse(task=shown)

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """Return a page of tasks."""
        del context
        size = page_size(request.page_size)
        since = seconds_of(request.active_since_time, "active_since_time") if request.HasField("active_since_time") else 0.0
        wanted = TaskFilter(states_from_proto(list(request.states)), request.parent_task_id, dict(request.labels), since)
        after = after_token_text(request.page_token)
        tasks = await self._store.list(current_caller().tenant_id, wanted, after, size + 1)
        shown: list[task_pb2.Task] = []
        room = _PAGE_BYTES
        for task, reason in zip(tasks[:size], self._waiting.reasons(tasks[:size]), strict=True):
            shown.append(task_to_proto(task))
            shown[-1].reason = reason
            room -= shown[-1].ByteSize()
            if room < 0 and len(shown) > 1:
                del shown[-1]
                break
        more = token_for(shown[-1].task_id.encode()) if len(shown) < len(tasks) else ""
        return pb.ListTasksResponse(tasks=shown, next_page_token=more)

    async def CancelTask(self, request: pb.CancelTaskRequest, context: Context) -> pb.CancelTaskResponse:
        """Record that a task shall end."""
        del context
        grace = span_of(request.grace, "grace") if request.HasField("grace") else _GRACE
        reason = request.reason or f"cancelled by {current_caller().name}"
        task = await self._intake.cancel(current_caller().tenant_id, request.task_id, reason, grace)
        return pb.CancelTaskResponse(task=task_to_proto(task))

    async def AnswerTask(self, request: pb.AnswerTaskRequest, context: Context) -> pb.AnswerTaskResponse:
        """Record a human's answer."""
        del context
        caller = current_caller()
        answer = Answer(caller.name, request.text, request.option, request.request_id)
        task = await self._intake.answer(caller.tenant_id, request.task_id, request.question_id, answer)
        return pb.AnswerTaskResponse(task=self._shown(task))

    async def RecordLanding(self, request: pb.RecordLandingRequest, context: Context) -> pb.RecordLandingResponse:
        """Record what became of a patch."""
        del context
        landing = landing_from_proto(request.landing)
        task = await self._intake.landed(current_caller().tenant_id, request.task_id, landing)
        return pb.RecordLandingResponse(task=self._shown(task))

    async def WatchTask(self, request: pb.WatchTaskRequest, context: Context) -> AsyncIterator[pb.WatchTaskResponse]:
        """Yield the task now and after changes; a slow reader sees the newest state, not every one on the way."""
        del context
        tenant_id = current_caller().tenant_id
        task = await self._store.get(tenant_id, request.task_id)
        shown = 0
        with self._changed.listen(task.id) as news:
            while True:
                news.clear()
                task = await self._store.get(tenant_id, task.id)
                if task.version != shown:
                    shown = task.version
                    yield pb.WatchTaskResponse(task=self._shown(task))
                if task.state.final:
                    return
                await news.wait()

    async def ReadTaskOutput(
        self, request: pb.ReadTaskOutputRequest, context: Context
    ) -> AsyncIterator[pb.ReadTaskOutputResponse]:
        """Yield output."""
        del context
        pieces = self._output.read(
            current_caller().tenant_id, request.task_id, request.attempt, request.offset, follow=request.follow
        )
        async for piece in pieces:
            chunk = piece.chunk
            if piece.missing:
                gap = event_pb2.Gap(**{"from": chunk.offset - piece.missing, "to": chunk.offset - 1})
                yield pb.ReadTaskOutputResponse(attempt=piece.attempt, gap=gap, next_offset=chunk.offset)
            yield pb.ReadTaskOutputResponse(
                attempt=piece.attempt, stream=chunk.stream, data=chunk.data, next_offset=chunk.offset + len(chunk.data)
            )

    def _shown(self, task: Task) -> task_pb2.Task:
        shown = task_to_proto(task)
        shown.reason = self._waiting.reason(task)
        return shown

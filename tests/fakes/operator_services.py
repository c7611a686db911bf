"""A control plane for tests of clients: answers from plain values, remembers what it was asked, can fail on order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from claude_conductor import errors
from claude_conductor.rpc import status
from claude_conductor.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    artefact_service_pb2,
    artefact_service_pb2_grpc,
    event_pb2,
    event_service_pb2,
    event_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    message_service_pb2_grpc,
    session_service_pb2,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)

TOKEN = "operator-token-of-the-test"
Task = task_pb2.Task


@dataclass
class World:
    """What the fake knows, and what it was asked."""

    tasks: dict[str, Task] = field(default_factory=dict)
    agents: list[agent_pb2.Agent] = field(default_factory=list)
    events: list[event_pb2.Event] = field(default_factory=list)
    output: list[tuple[str, bytes]] = field(default_factory=list)
    """(stream, data) of every task."""
    artefacts: dict[str, bytes] = field(default_factory=dict)
    mailbox: list[message_service_pb2.ReceivedMessage] = field(default_factory=list)
    asked: list[message_service_pb2.MessageServiceRequestRequest] = field(default_factory=list)
    breaking: int = 0
    """How many requests find their connection cut."""
    subscriptions: list[message_service_pb2.Subscription] = field(default_factory=list)
    dead: list[message_pb2.MessageRecord] = field(default_factory=list)
    """Dead letters; sending one again or removing it takes it out."""
    wishes: list[message_service_pb2.RedriveMessagesRequest | message_service_pb2.PurgeMessagesRequest] = field(
        default_factory=list
    )
    gap: event_pb2.Gap | None = None
    """What a receiver that comes with a cursor missed."""
    sent: list[message_service_pb2.SendMessageRequest] = field(default_factory=list)
    submitted: list[task_service_pb2.SubmitTaskRequest] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    """Of every call, in order."""
    opened: list[str] = field(default_factory=list)
    """Every streaming call: its name and cursor."""
    break_streams_after: int = 0
    """Streams end with UNAVAILABLE after so many answers; 0: they do not."""
    failures: list[errors.ConductorError] = field(default_factory=list)
    """The next calls fail with these."""
    failures_of_submit: list[errors.ConductorError | None] = field(default_factory=list)
    """What the next submissions fail with; None: that one does not."""
    finish: Callable[[Task], None] | None = None
    """What happens to a task that is watched; None: it stays as it is."""
    moves: int = 0
    """How often a receiver is asked to connect again."""
    page: int = 1000
    types: list[task_pb2.TaskType] = field(default_factory=lambda: [task_pb2.TaskType(name="generic", template="{prompt}")])
    checked: list[task_pb2.TaskSpec] = field(default_factory=list)


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def succeed(task: Task) -> None:
    """End a task well, with a patch and usage."""
    task.state = task_pb2.TASK_STATE_SUCCEEDED
    task.agent_id = "agent-1"
    task.start_time.CopyFrom(task.create_time)
    task.end_time.CopyFrom(now())
    task.version += 1
    task.result.exit_code = 0
    task.result.summary = "all done"
    task.result.patch_artefact_id = "art_patch"
    task.result.patch.files, task.result.patch.added_lines, task.result.patch.removed_lines = 2, 10, 3
    task.result.usage.cpu_seconds = 1.25
    task.result.usage.memory_peak_bytes = 40 << 20


def fail(task: Task) -> None:
    """End a task badly."""
    task.state = task_pb2.TASK_STATE_FAILED
    task.reason = "exit code 3"
    task.version += 1
    task.end_time.CopyFrom(now())
    task.result.exit_code = 3
    task.result.failure.kind = task_pb2.FAILURE_KIND_EXIT_CODE
    task.result.failure.message = "it ended with exit code 3"


class Servicers(
    task_service_pb2_grpc.TaskServiceServicer,
    agent_service_pb2_grpc.AgentServiceServicer,
    message_service_pb2_grpc.MessageServiceServicer,
    event_service_pb2_grpc.EventServiceServicer,
    artefact_service_pb2_grpc.ArtefactServiceServicer,
    admin_service_pb2_grpc.AdminServiceServicer,
):
    """Every service."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def _check(self, context: Any) -> None:
        metadata = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        self.world.metadata.append(metadata)
        if metadata.get("authorization") != f"Bearer {TOKEN}":
            await status.abort(context, errors.UnauthenticatedError())
        if self.world.failures:
            await status.abort(context, self.world.failures.pop(0))

    async def _task(self, task_id: str, context: Any) -> Task:
        found = [task for name, task in self.world.tasks.items() if name.startswith(task_id)]
        if len(found) != 1:
            await status.abort(context, errors.TaskNotFoundError(task_id=task_id))
        return found[0]

    async def _broken(self, sent: int, context: Any) -> None:
        if self.world.break_streams_after and sent >= self.world.break_streams_after:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    async def SubmitTask(self, request, context):  # noqa: N802
        await self._check(context)
        await self._fail_submit(context)
        return task_service_pb2.SubmitTaskResponse(task=self._submit(request))

    async def SubmitTasks(self, request, context):  # noqa: N802
        await self._check(context)
        await self._fail_submit(context)
        for place, each in enumerate(request.tasks):
            if (kind := each.spec.type) and kind not in {known.name for known in self.world.types}:
                await status.abort(context, errors.InvalidArgumentError("There is no such type of task.", type=kind, task=place))
        task_ids: list[str] = []
        for each in request.tasks:
            spec = task_pb2.TaskSpec()
            spec.CopyFrom(each.spec)
            spec.depends_on.extend(task_ids[place] for place in each.after)
            spec.parent_task_id = task_ids[each.within] if each.HasField("within") else spec.parent_task_id
            task_ids.append(self._submit(task_service_pb2.SubmitTaskRequest(request_id=each.request_id, spec=spec)).task_id)
        return task_service_pb2.SubmitTasksResponse(task_ids=task_ids)

    async def _fail_submit(self, context: Any) -> None:
        if self.world.failures_of_submit and (problem := self.world.failures_of_submit.pop(0)) is not None:
            await status.abort(context, problem)

    def _submit(self, request: task_service_pb2.SubmitTaskRequest) -> Task:
        self.world.submitted.append(request)
        for earlier, task in zip(self.world.submitted, self.world.tasks.values(), strict=False):
            if request.request_id and earlier.request_id == request.request_id:
                self.world.submitted.pop()
                return task
        task_id = f"task_{len(self.world.tasks) + 1:032x}"
        task = Task(task_id=task_id, spec=request.spec, state=task_pb2.TASK_STATE_QUEUED, version=1, submitter="operator")
        task.create_time.CopyFrom(now())
        self.world.tasks[task_id] = task
        return task

    async def CheckTask(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.checked.append(request.spec)
        if request.spec.type and request.spec.type not in {kind.name for kind in self.world.types}:
            await status.abort(context, errors.InvalidArgumentError("There is no such type of task.", type=request.spec.type))
        return task_service_pb2.CheckTaskResponse(spec=request.spec)

    async def ListTaskTypes(self, request, context):  # noqa: N802
        del request
        await self._check(context)
        return task_service_pb2.ListTaskTypesResponse(types=self.world.types)

    async def GetTask(self, request, context):  # noqa: N802
        await self._check(context)
        return task_service_pb2.GetTaskResponse(task=await self._task(request.task_id, context))

    async def ListTasks(self, request, context):  # noqa: N802
        await self._check(context)
        found = [task for task in reversed(self.world.tasks.values()) if not request.states or task.state in request.states]
        since = request.active_since_time.ToNanoseconds()
        found = [task for task in found if not task.HasField("end_time") or task.end_time.ToNanoseconds() >= since]
        found = [task for task in found if dict(request.labels).items() <= dict(task.spec.labels).items()]
        size = min(request.page_size or 100, self.world.page)
        start = int(request.page_token or 0)
        token = str(start + size) if start + size < len(found) else ""
        return task_service_pb2.ListTasksResponse(tasks=found[start : start + size], next_page_token=token)

    async def CancelTask(self, request, context):  # noqa: N802
        await self._check(context)
        task = await self._task(request.task_id, context)
        if task.state == task_pb2.TASK_STATE_SUCCEEDED:
            await status.abort(context, errors.IllegalTransitionError(task_id=task.task_id))
        task.state, task.reason = task_pb2.TASK_STATE_CANCELLED, request.reason
        task.version += 1
        return task_service_pb2.CancelTaskResponse(task=task)

    async def RecordLanding(self, request, context):  # noqa: N802
        await self._check(context)
        task = await self._task(request.task_id, context)
        task.landing.CopyFrom(request.landing)
        return task_service_pb2.RecordLandingResponse(task=task)

    async def WatchTask(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.opened.append(f"watch {request.task_id}")
        task = await self._task(request.task_id, context)
        yield task_service_pb2.WatchTaskResponse(task=task)
        await self._broken(len(self.world.opened) == 1, context)
        if self.world.finish is None:
            await asyncio.Event().wait()
        self.world.finish(task)
        yield task_service_pb2.WatchTaskResponse(task=task)

    async def ReadTaskOutput(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.opened.append(f"output {request.offset}")
        await self._task(request.task_id, context)
        offset = sent = 0
        for stream, data in self.world.output:
            offset += len(data)
            if offset > request.offset:
                await self._broken(sent, context)
                sent += 1
                yield task_service_pb2.ReadTaskOutputResponse(attempt=1, stream=stream, data=data, next_offset=offset)

    async def GetAgent(self, request, context):  # noqa: N802
        await self._check(context)
        for agent in self.world.agents:
            if agent.agent_id == request.agent_id:
                return agent_service_pb2.GetAgentResponse(agent=agent)
        await status.abort(context, errors.AgentNotFoundError(agent_id=request.agent_id))
        raise AssertionError

    async def ListAgents(self, request, context):  # noqa: N802
        await self._check(context)
        size, start = min(request.page_size or 100, self.world.page), int(request.page_token or 0)
        token = str(start + size) if start + size < len(self.world.agents) else ""
        return agent_service_pb2.ListAgentsResponse(agents=self.world.agents[start : start + size], next_page_token=token)

    async def SendMessage(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.sent.append(request)
        count = 0 if request.recipient == "topic/empty" else 1
        message_id = request.envelope.id or "msg_" + "a" * 32
        return message_service_pb2.SendMessageResponse(message_id=message_id, recipient_count=count)

    async def FetchMessages(self, request, context):  # noqa: N802
        await self._check(context)
        return message_service_pb2.FetchMessagesResponse(messages=self.world.mailbox[: request.max_messages or 100])

    async def AcknowledgeMessages(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.acknowledged += request.positions
        return message_service_pb2.AcknowledgeMessagesResponse()

    async def GetMessage(self, request, context):  # noqa: N802
        await self._check(context)
        records = [record for record in self.world.dead if record.message_id == request.message_id]
        records = records or [message_pb2.MessageRecord(message_id=request.message_id, state=message_pb2.MESSAGE_STATE_ACKED)]
        return message_service_pb2.GetMessageResponse(records=records)

    async def Request(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.asked.append(request)
        if self.world.breaking:
            self.world.breaking -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        envelope = message_pb2.Envelope(id="msg_9", data=b"because", correlation_id=request.envelope.id)
        reply = message_service_pb2.ReceivedMessage(sender="agent/agent-1", position=9, envelope=envelope)
        return message_service_pb2.MessageServiceRequestResponse(reply=reply)

    async def Subscribe(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.subscriptions.append(message_service_pb2.Subscription(topic=request.topic, mailbox="operator"))
        return message_service_pb2.MessageServiceSubscribeResponse()

    async def Unsubscribe(self, request, context):  # noqa: N802
        await self._check(context)
        gone = (request.topic, request.mailbox or "operator")
        self.world.subscriptions = [each for each in self.world.subscriptions if (each.topic, each.mailbox) != gone]
        return message_service_pb2.MessageServiceUnsubscribeResponse()

    async def ListSubscriptions(self, request, context):  # noqa: N802
        await self._check(context)
        found = [each for each in self.world.subscriptions if not request.topic or each.topic == request.topic]
        start = int(request.page_token or 0)
        token = str(start + self.world.page) if start + self.world.page < len(found) else ""
        page = found[start : start + self.world.page]
        return message_service_pb2.MessageServiceListSubscriptionsResponse(subscriptions=page, next_page_token=token)

    async def ListMessages(self, request, context):  # noqa: N802
        await self._check(context)
        if list(request.states) == [message_pb2.MESSAGE_STATE_DEAD]:
            found = [record for record in self.world.dead if request.recipient in ("", record.recipient)]
            return message_service_pb2.ListMessagesResponse(records=found)
        record = message_pb2.MessageRecord(
            message_id="msg_1", recipient=request.recipient, state=message_pb2.MESSAGE_STATE_ACCEPTED
        )
        return message_service_pb2.ListMessagesResponse(records=[record])

    async def ReceiveMessages(self, request, context):  # noqa: N802
        await self._check(context)
        cursor = request.after_position
        self.world.opened.append(f"receive {cursor}" if request.HasField("after_position") else "receive")
        if self.world.gap is not None and request.HasField("after_position"):
            yield message_service_pb2.ReceiveMessagesResponse(gap=self.world.gap, cursor=0)
            self.world.gap, cursor = None, 0
        sent = 0
        for message in self.world.mailbox:
            if message.position > cursor:
                await self._broken(sent, context)
                sent += 1
                yield message_service_pb2.ReceiveMessagesResponse(message=message, cursor=message.position)
        if self.world.moves:
            self.world.moves -= 1
            last = self.world.mailbox[-1].position
            yield message_service_pb2.ReceiveMessagesResponse(move=session_service_pb2.Move(), cursor=last)
            return
        await asyncio.Event().wait()

    async def RedriveMessages(self, request, context):  # noqa: N802
        await self._check(context)
        return message_service_pb2.RedriveMessagesResponse(outcomes=self._take_letters(request))

    async def PurgeMessages(self, request, context):  # noqa: N802
        await self._check(context)
        return message_service_pb2.PurgeMessagesResponse(outcomes=self._take_letters(request))

    def _take_letters(self, request):
        self.world.wishes.append(request)
        outcomes = []
        for message_id in request.message_ids:
            known = [record for record in self.world.dead if record.message_id == message_id]
            error = None if known else errors.MessageNotDeadError()
            outcomes.append(
                message_service_pb2.LetterOutcome(
                    message_id=message_id,
                    reason=error.reason if error else "",
                    message=error.message if error else "",
                    next_step=error.next_step if error else "",
                )
            )
            self.world.dead = [record for record in self.world.dead if record not in known]
        return outcomes

    async def WatchEvents(self, request, context):  # noqa: N802
        await self._check(context)
        self.world.opened.append(f"events {request.after_cursor}")
        sent = 0
        for event in self.world.events:
            if event.cursor > request.after_cursor:
                await self._broken(sent, context)
                sent += 1
                yield event_service_pb2.WatchEventsResponse(event=event)
        await asyncio.Event().wait()

    async def ReadArtefact(self, request, context):  # noqa: N802
        await self._check(context)
        if request.artefact_id not in self.world.artefacts:
            await status.abort(context, errors.ArtefactNotFoundError(artefact_id=request.artefact_id))
        content = self.world.artefacts[request.artefact_id][request.offset :]
        self.world.opened.append(f"artefact {request.offset}")
        for sent, start in enumerate(range(0, len(content), 4)):
            await self._broken(sent, context)
            yield artefact_service_pb2.ReadArtefactResponse(data=content[start : start + 4])

    async def WriteArtefact(self, requests, context):  # noqa: N802
        await self._check(context)
        content, first = b"", None
        async for request in requests:
            first = first or request.artefact
            content += request.data
        self.world.artefacts["art_written"] = content
        return artefact_service_pb2.WriteArtefactResponse(
            artefact=task_pb2.Artefact(artefact_id="art_written", name=first.name, size_bytes=len(content))
        )

    async def GetStatus(self, request, context):  # noqa: N802
        await self._check(context)
        return admin_service_pb2.GetStatusResponse(
            version="0.1.0",
            store="memory",
            pid=4711,
            start_time=now(),
            tasks={"queued": len(self.world.tasks)},
            agents={"idle": 2},
        )


@asynccontextmanager
async def serving(path: Path, world: World) -> AsyncIterator[str]:
    """Serve on a Unix socket for the length of the block; yields the address."""
    path.parent.mkdir(parents=True, exist_ok=True)
    server = grpc.aio.server()
    servicers = Servicers(world)
    for register in (
        task_service_pb2_grpc.add_TaskServiceServicer_to_server,
        agent_service_pb2_grpc.add_AgentServiceServicer_to_server,
        message_service_pb2_grpc.add_MessageServiceServicer_to_server,
        event_service_pb2_grpc.add_EventServiceServicer_to_server,
        artefact_service_pb2_grpc.add_ArtefactServiceServicer_to_server,
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
    ):
        register(servicers, server)
    checks = health.aio.HealthServicer()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield f"unix:{path}"
    finally:
        await server.stop(0)
        path.unlink(missing_ok=True)


@contextmanager
def serving_in_a_thread(path: Path, world: World) -> Iterator[str]:
    """The same for tests that block: of the command line as a process, and of the sync face."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]] = Future()

    async def serve() -> None:
        async with serving(path, world) as address:
            end = asyncio.Event()
            ready.set_result((asyncio.get_running_loop(), end, address))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="fake control plane")
    thread.start()
    loop, end, address = ready.result(10)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)

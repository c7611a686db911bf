"""An agent's door made of values: a mailbox that shows each message once, and a record of everything it was asked."""

# ruff: noqa: N802 - gRPC names its methods in camel case

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent_sidecar.local.server import SOCKET_NAME, LocalServer
from claude_conductor import errors
from claude_conductor.rpc import status
from claude_conductor.v1 import (
    agent_pb2,
    local_service_pb2,
    local_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    task_pb2,
)

TASK = "task_" + "1" * 32
MAILBOX = f"task/{TASK}"


@dataclass
class Door(local_service_pb2_grpc.LocalServiceServicer):
    """What a sidecar does for one agent."""

    socket: str = ""
    """Where it is served."""
    sent: list[local_service_pb2.SendRequest] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    asked: list[local_service_pb2.AskHumanRequest] = field(default_factory=list)
    human: asyncio.Queue[local_service_pb2.AskHumanResponse] = field(default_factory=asyncio.Queue)
    """What the human answers, one question after the other."""
    given_up: list[str] = field(default_factory=list)
    """Questions whose calls were cancelled."""
    submitted: list[local_service_pb2.SubmitSubtaskRequest] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)
    fetches: int = 0
    refuse: list[errors.ConductorError] = field(default_factory=list)
    """What the next sends are refused with, one after the other."""
    answers: dict[str, bytes] = field(default_factory=dict)
    """What is answered to a message with this text."""
    spec: task_pb2.TaskSpec = field(default_factory=lambda: task_pb2.TaskSpec(driver="claude_code"))
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets a task end that is waited for."""
    waiting: list[message_service_pb2.ReceivedMessage] = field(default_factory=list)
    answered: dict[str, list[message_service_pb2.ReceivedMessage]] = field(default_factory=dict)
    """What was answered to each fetch, by the id of its request."""
    positions: itertools.count = field(default_factory=lambda: itertools.count(1))  # type: ignore[type-arg]
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def deliver(self, data: bytes | str, *, sender: str = "operator", **envelope: object) -> int:
        """Put a message into the mailbox; return its position."""
        position = next(self.positions)
        raw = data.encode() if isinstance(data, str) else data
        letter = message_pb2.Envelope(id=f"msg_{position:032x}", type="note", data=raw, **envelope)  # type: ignore[arg-type]
        async with self.news:
            self.waiting.append(
                message_service_pb2.ReceivedMessage(sender=sender, position=position, attempt=1, envelope=letter, mailbox=MAILBOX)
            )
            self.news.notify_all()
        return position

    async def until(self, condition, seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds), self.news:
            await self.news.wait_for(condition)

    async def _seen(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def GetSelf(self, request, context):
        return local_service_pb2.GetSelfResponse(
            agent_id="agent-1",
            tenant_id="default",
            task_id=TASK,
            mailbox=MAILBOX,
            isolation=agent_pb2.IsolationStatus(effective_level=agent_pb2.ISOLATION_LEVEL_STRICT),
        )

    async def Send(self, request, context):
        self.sent.append(request)
        await self._seen()
        if self.refuse:
            await status.abort(context, self.refuse.pop(0))
        answer = self.answers.get(request.envelope.data.decode("utf-8", "replace"))
        if answer is not None:
            await self.deliver(answer, correlation_id=request.envelope.id)
        return local_service_pb2.SendResponse(message_id=request.envelope.id, recipient_count=1)

    async def Request(self, request, context):
        await self.Send(request, context)

        def answers() -> list[message_service_pb2.ReceivedMessage]:
            return [each for each in self.waiting if each.envelope.correlation_id == request.envelope.id]

        async with self.news:
            with suppress(TimeoutError):
                async with asyncio.timeout(request.timeout.ToMilliseconds() / 1000):
                    await self.news.wait_for(answers)
            found = answers()
            if found:
                self.waiting.remove(found[0])
        if not found:
            await status.abort(context, errors.DeadlineExceededError(message_id=request.envelope.id))
        return local_service_pb2.RequestResponse(reply=found[0])

    async def AskHuman(self, request, context):
        self.asked.append(request)
        await self._seen()
        if self.refuse:
            await status.abort(context, self.refuse.pop(0))
        try:
            async with asyncio.timeout(request.timeout.ToMilliseconds() / 1000):
                return await self.human.get()
        except TimeoutError:
            await status.abort(context, errors.DeadlineExceededError(question_id=request.question_id))
        except asyncio.CancelledError:
            self.given_up.append(request.question_id)
            await self._seen()
            raise

    async def Fetch(self, request, context):
        self.fetches += 1
        await self._seen()
        again = [each for each in self.answered.get(request.request_id, ()) if each.position not in self.acknowledged]
        if again:
            return local_service_pb2.FetchResponse(messages=again)
        wait = request.wait.ToMilliseconds() / 1000
        async with self.news:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.news.wait_for(lambda: self.waiting)
            taken, self.waiting = self.waiting[: request.max_messages], self.waiting[request.max_messages :]
        if taken:
            self.answered[request.request_id] = taken
        return local_service_pb2.FetchResponse(messages=taken)

    async def Acknowledge(self, request, context):
        if any(position > 1000 for position in request.positions):
            await status.abort(context, errors.MessageNotFoundError(position=max(request.positions)))
        self.acknowledged += request.positions
        await self._seen()
        return local_service_pb2.AcknowledgeResponse()

    async def ListPeers(self, request, context):
        agents = [
            agent_pb2.Agent(agent_id="agent-1", state=agent_pb2.AGENT_STATE_WORKING, task_id=TASK, drivers=["claude_code"]),
            agent_pb2.Agent(agent_id="reviewer", state=agent_pb2.AGENT_STATE_IDLE, drivers=["grpc_agent"]),
            agent_pb2.Agent(agent_id="agent-2", state=agent_pb2.AGENT_STATE_IDLE, drivers=["claude_code"]),
        ]
        return local_service_pb2.ListPeersResponse(agents=agents)

    async def SubmitSubtask(self, request, context):
        self.submitted.append(request)
        stored = task_pb2.Task(task_id="task_child", spec=request.spec, state=task_pb2.TASK_STATE_QUEUED)
        return local_service_pb2.SubmitSubtaskResponse(task=stored)

    async def GetSubtask(self, request, context):
        if request.task_id == TASK:
            own = task_pb2.Task(task_id=TASK, spec=self.spec, state=task_pb2.TASK_STATE_RUNNING)
            return local_service_pb2.GetSubtaskResponse(task=own)
        if request.task_id != "task_child":
            await status.abort(context, errors.TaskNotFoundError(task_id=request.task_id))
        with suppress(TimeoutError):
            async with asyncio.timeout(request.wait.ToMilliseconds() / 1000):
                await self.ended.wait()
        state = task_pb2.TASK_STATE_SUCCEEDED if self.ended.is_set() else task_pb2.TASK_STATE_RUNNING
        result = task_pb2.TaskResult(summary="it is done") if self.ended.is_set() else None
        return local_service_pb2.GetSubtaskResponse(task=task_pb2.Task(task_id="task_child", state=state, result=result))

    async def Subscribe(self, request, context):
        self.topics.add(request.topic)
        return local_service_pb2.SubscribeResponse()

    async def Unsubscribe(self, request, context):
        self.topics.discard(request.topic)
        return local_service_pb2.UnsubscribeResponse()

    async def ListSubscriptions(self, request, context):
        return local_service_pb2.ListSubscriptionsResponse(topics=sorted(self.topics))

    async def ReportProgress(self, request, context):
        self.progress.append(request.text)
        return local_service_pb2.ReportProgressResponse()


@asynccontextmanager
async def serving(folder: Path, door: Door) -> AsyncIterator[str]:
    """Serve the door in a folder the way a sidecar does, for the length of the block; yield the path of its socket."""
    server = LocalServer(folder, door, os.geteuid())  # type: ignore[arg-type]
    await server.start()
    try:
        yield str(folder / SOCKET_NAME)
    finally:
        await server.stop(0)

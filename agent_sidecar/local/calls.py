"""What the sidecar asks the control plane on behalf of its agent: unary calls with the sidecar's own token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import grpc

from claude_conductor.rpc.channel import Metadata
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    message_service_pb2,
    message_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)

_T = TypeVar("_T")
_CALL_SECONDS: Final = 10.0
_PAGE: Final = 1000
_MOST_PAGES: Final = 10
_FINAL: Final = frozenset(
    {
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
        task_pb2.TASK_STATE_TIMED_OUT,
        task_pb2.TASK_STATE_DEAD,
    }
)


class ControlPlane:
    """The unary half of the control plane.

    Args:
        channel: Returns the channel.
        metadata: Says who calls; gets the trace context added.
    """

    def __init__(self, channel: Callable[[], grpc.aio.Channel], metadata: Callable[[str], Metadata]) -> None:
        self._channel = channel
        self._metadata = metadata

    async def submit(self, spec: task_pb2.TaskSpec, request_id: str, traceparent: str) -> task_pb2.Task:
        """Submit a task.

        Raises:
            ConductorError: It was refused, or the control plane is away.
        """
        stub = task_service_pb2_grpc.TaskServiceStub(self._channel())
        request = task_service_pb2.SubmitTaskRequest(request_id=request_id, spec=spec)
        try:
            answer = await stub.SubmitTask(request, metadata=self._metadata(traceparent), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as cause:
            raise from_call(cause) from cause
        task: task_pb2.Task = answer.task
        return task

    async def task(self, task_id: str, wait: float) -> task_pb2.Task:
        """Return a task, waiting up to `wait` seconds for its end.

        Raises:
            ConductorError: There is none, or the control plane is away.
        """
        stub = task_service_pb2_grpc.TaskServiceStub(self._channel())
        try:
            last = await self._watch(stub, task_id, wait) if wait > 0 else None
            if last is not None:
                return last
            request = task_service_pb2.GetTaskRequest(task_id=task_id)
            answer = await stub.GetTask(request, metadata=self._metadata(""), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as cause:
            raise from_call(cause) from cause
        task: task_pb2.Task = answer.task
        return task

    async def _watch(self, stub: task_service_pb2_grpc.TaskServiceAsyncStub, task_id: str, wait: float) -> task_pb2.Task | None:
        """Return the task as it was seen last; None if nothing was seen or the stream broke."""
        last: task_pb2.Task | None = None
        call = stub.WatchTask(task_service_pb2.WatchTaskRequest(task_id=task_id), metadata=self._metadata(""), timeout=wait)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                try:
                    async for change in call:
                        last = change.task
                        if last.state in _FINAL:
                            break
                except grpc.aio.AioRpcError as cause:
                    if cause.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise
        call.cancel()
        return last

    async def subscribe(self, topic: str, mailbox: str) -> None:
        """Have messages to a topic come to a mailbox of the agent.

        Raises:
            ConductorError: It was refused, or the control plane is away.
        """
        request = message_service_pb2.MessageServiceSubscribeRequest(topic=topic, mailbox=mailbox)
        await self._ask(message_service_pb2_grpc.MessageServiceStub(self._channel()).Subscribe, request)

    async def unsubscribe(self, topic: str, mailbox: str) -> None:
        """End a subscription.

        Raises:
            ConductorError: It was refused, or the control plane is away.
        """
        request = message_service_pb2.MessageServiceUnsubscribeRequest(topic=topic, mailbox=mailbox)
        await self._ask(message_service_pb2_grpc.MessageServiceStub(self._channel()).Unsubscribe, request)

    async def subscriptions(self, mailbox: str) -> list[str]:
        """Return the topics a mailbox of the agent is subscribed to.

        Raises:
            ConductorError: The control plane is away.
        """
        request = message_service_pb2.MessageServiceListSubscriptionsRequest(mailbox=mailbox, page_size=_PAGE)
        answer = await self._ask(message_service_pb2_grpc.MessageServiceStub(self._channel()).ListSubscriptions, request)
        return [each.topic for each in answer.subscriptions]

    async def _ask(self, method: Callable[..., Awaitable[_T]], request: object) -> _T:
        try:
            return await method(request, metadata=self._metadata(""), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as cause:
            raise from_call(cause) from cause

    async def peers(self) -> list[agent_pb2.Agent]:
        """Return the agents of the tenant, without what concerns their hosts.

        Raises:
            ConductorError: The control plane is away.
        """
        stub = agent_service_pb2_grpc.AgentServiceStub(self._channel())
        found: list[agent_pb2.Agent] = []
        token = ""
        try:
            for _ in range(_MOST_PAGES):
                request = agent_service_pb2.ListAgentsRequest(page_size=_PAGE, page_token=token)
                answer = await stub.ListAgents(request, metadata=self._metadata(""), timeout=_CALL_SECONDS)
                found += [_public(agent) for agent in answer.agents]
                token = answer.next_page_token
                if not token:
                    break
        except grpc.aio.AioRpcError as cause:
            raise from_call(cause) from cause
        return found


def _public(agent: agent_pb2.Agent) -> agent_pb2.Agent:
    return agent_pb2.Agent(
        agent_id=agent.agent_id,
        tenant_id=agent.tenant_id,
        state=agent.state,
        state_reason=agent.state_reason,
        task_id=agent.task_id,
        labels=agent.labels,
        drivers=agent.drivers,
    )

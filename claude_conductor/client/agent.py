"""The client for programs inside of a sandbox: their only door, the Unix socket their sidecar serves."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from claude_conductor.client.call import DEADLINE, Caller
from claude_conductor.client.messages import Sent
from claude_conductor.client.tasks import duration
from claude_conductor.errors import DeadlineExceededError
from claude_conductor.rpc.channel import WITHOUT_PINGS, open_channel
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import (
    agent_pb2,
    local_service_pb2,
    local_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    task_pb2,
)

SOCKET: Final = "/run/conductor/agent.sock"
LONGEST_WAIT: Final = 60.0
"""Seconds the sidecar waits in one call; longer waits are made of several."""


class AgentClient:
    """An agent's connection to its sidecar. The socket is its identity, so there is no token.

        async with AgentClient.connect() as agent:
            await agent.send("parent", b"half way", type="status_update")

    Every failure is a class of `claude_conductor.errors`.
    """

    def __init__(self, socket: str | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        address = socket or variables.get("CONDUCTOR_SOCKET") or SOCKET
        if not address.startswith("unix:"):
            address = f"unix:{address}"
        self._caller = Caller(address, Secret(""), open_channel(address, WITHOUT_PINGS))
        self._stub = local_service_pb2_grpc.LocalServiceStub(self._caller.channel)
        self._unanswered: list[str] = []
        """Ids of fetches that failed: their answers may have been lost on the way, and are asked for again."""

    @classmethod
    def connect(cls, socket: str | None = None, *, environment: Mapping[str, str] | None = None) -> Self:
        """Return a connection to `socket` (path or gRPC address), else to CONDUCTOR_SOCKET, else to /run/conductor/agent.sock."""
        return cls(socket, environment=environment)

    async def get_self(self) -> local_service_pb2.GetSelfResponse:
        """Return who this agent is, its mailbox, and what it works on."""
        return await self._caller.unary(self._stub.GetSelf, local_service_pb2.GetSelfRequest())

    async def send(
        self,
        recipient: str,
        data: bytes | message_pb2.Envelope,
        *,
        type: str = "status_update",  # noqa: A002 - the envelope's own word
        message_id: str = "",
        content_type: str = "text/plain; charset=utf-8",
        correlation_id: str = "",
        subject: str = "",
        ephemeral: bool = False,
        time_to_live: float | None = None,
    ) -> str:
        """Send a message and return its id; it was accepted when this returns.

        Args:
            recipient: Agent id, `task/TASK_ID`, `parent`, `topic/NAME` or `broadcast`.
            data: The payload, 1 MiB at most by default; or a whole envelope, then what describes one here is not used.
            type: What kind of message it is.
            message_id: Idempotency key; with one, repeating after UNAVAILABLE is safe.
            content_type: Media type of the payload.
            correlation_id: For a reply: the id of the message it answers.
            subject: What it is about.
            ephemeral: Hand it to the recipient's live stream or fail.
            time_to_live: Seconds; None means 24 h.

        Raises:
            AgentNotFoundError, AgentOfflineError, PolicyDeniedError, PayloadTooLargeError, HopLimitError,
            ControlPlaneUnavailableError: of the control plane, or without its answer.
            MailboxFullError, RateLimitedError: a repeat with the same id helps after `retry_after` seconds.
        """
        envelope = _envelope(
            data,
            type=type,
            message_id=message_id,
            content_type=content_type,
            correlation_id=correlation_id,
            subject=subject,
        )
        return (await self._send(recipient, envelope, ephemeral=ephemeral, time_to_live=time_to_live)).message_id

    async def publish(
        self,
        recipient: str,
        data: bytes | message_pb2.Envelope,
        *,
        type: str = "status_update",  # noqa: A002 - the envelope's own word
        message_id: str = "",
        content_type: str = "text/plain; charset=utf-8",
        ephemeral: bool = False,
        time_to_live: float | None = None,
    ) -> Sent:
        """Send a message to `topic/NAME` or `broadcast`, as `send` does, and return how many get it with its id."""
        envelope = _envelope(data, type=type, message_id=message_id, content_type=content_type)
        answer = await self._send(recipient, envelope, ephemeral=ephemeral, time_to_live=time_to_live)
        return Sent(answer.message_id, recipients=answer.recipient_count)

    async def request(
        self,
        recipient: str,
        data: bytes | message_pb2.Envelope,
        *,
        type: str = "question",  # noqa: A002 - the envelope's own word
        timeout: float = 30.0,
        message_id: str = "",
        content_type: str = "text/plain; charset=utf-8",
    ) -> message_service_pb2.ReceivedMessage:
        """Send a message and return its answer, acknowledged. Other messages keep waiting for `fetch`.

        Args:
            recipient: As for `send`; of a topic or of everyone the first answer is returned.
            data: The payload, or a whole envelope.
            type: What kind of message it is.
            timeout: Seconds to wait, an hour at most; after that the message is not delivered, and a late answer is fetched.
            message_id: Idempotency key; with one, repeating goes on waiting for the same answer.
            content_type: Media type of the payload.

        Raises:
            DeadlineExceededError: No answer came in time.
            AgentNotFoundError: There is nobody to answer, or the message came back.
        """
        envelope = _envelope(data, type=type, message_id=message_id, content_type=content_type)
        request = local_service_pb2.RequestRequest(recipient=recipient, envelope=envelope, timeout=duration(timeout))
        reply = (await self._caller.unary(self._stub.Request, request, timeout=timeout + DEADLINE)).reply
        if reply.position:
            await self.acknowledge([reply.position], mailbox=reply.mailbox)
        return reply

    async def _send(
        self, recipient: str, envelope: message_pb2.Envelope, *, ephemeral: bool, time_to_live: float | None
    ) -> local_service_pb2.SendResponse:
        request = local_service_pb2.SendRequest(
            recipient=recipient,
            envelope=envelope,
            quality=message_pb2.QUALITY_EPHEMERAL if ephemeral else message_pb2.QUALITY_DURABLE,
            time_to_live=None if time_to_live is None else duration(time_to_live),
        )
        return await self._caller.unary(self._stub.Send, request)

    async def subscribe(self, topic: str) -> None:
        """Have messages to `topic/NAME` come to this agent's mailbox, as long as that is there. Repeating it is harmless.

        Raises:
            SubscriptionLimitError: The mailbox or the topic has as many as allowed.
        """
        await self._caller.unary(self._stub.Subscribe, local_service_pb2.SubscribeRequest(topic=topic))

    async def unsubscribe(self, topic: str) -> None:
        """End a subscription. Repeating it is harmless."""
        await self._caller.unary(self._stub.Unsubscribe, local_service_pb2.UnsubscribeRequest(topic=topic))

    async def subscriptions(self) -> list[str]:
        """Return the topics this agent's mailbox is subscribed to."""
        answer = await self._caller.unary(self._stub.ListSubscriptions, local_service_pb2.ListSubscriptionsRequest())
        return list(answer.topics)

    async def fetch(
        self, *, limit: int = 100, wait: float = 0.0, request_id: str = ""
    ) -> list[message_service_pb2.ReceivedMessage]:
        """Return messages this process has not fetched yet, in order; none twice.

        After a call that failed or was cancelled, the next one brings what its answer held.

        Args:
            limit: At most this many; more if an answer that was lost held more.
            wait: Seconds to wait for the first, at most 60.
            request_id: Names the call: what was answered to this name before, and is not acknowledged, comes again. For who keeps
                names beyond its process; else a new name is taken.
        """
        if not request_id:
            request_id = self._unanswered.pop(0) if self._unanswered else uuid4().hex
        request = local_service_pb2.FetchRequest(max_messages=limit, wait=duration(wait) if wait else None, request_id=request_id)
        try:
            answer = await self._caller.unary(self._stub.Fetch, request, timeout=wait + DEADLINE)
        except BaseException:
            self._unanswered.append(request_id)
            raise
        return list(answer.messages)

    async def acknowledge(self, positions: Sequence[int], *, mailbox: str = "") -> None:
        """Acknowledge messages by their positions. Repeating it is harmless.

        Args:
            positions: From the messages.
            mailbox: From the messages; empty means the present one.

        Raises:
            MessageNotFoundError: A position never existed.
        """
        request = local_service_pb2.AcknowledgeRequest(mailbox=mailbox, positions=positions)
        await self._caller.unary(self._stub.Acknowledge, request)

    async def peers(self) -> list[agent_pb2.Agent]:
        """Return the agents this one may talk to."""
        return list((await self._caller.unary(self._stub.ListPeers, local_service_pb2.ListPeersRequest())).agents)

    async def submit_subtask(self, spec: task_pb2.TaskSpec, *, request_id: str = "") -> task_pb2.Task:
        """Submit a task as a child of the present one; the same request_id returns the same task.

        Raises:
            InvalidArgumentError, IdempotencyConflictError, ControlPlaneUnavailableError: of the control plane.
        """
        request = local_service_pb2.SubmitSubtaskRequest(request_id=request_id, spec=spec)
        return (await self._caller.unary(self._stub.SubmitSubtask, request)).task

    async def get_subtask(self, task_id: str, *, wait: float = 0.0) -> task_pb2.Task:
        """Return a task, after waiting up to `wait` seconds (60 at most) for its end.

        Raises:
            TaskNotFoundError: There is none.
        """
        request = local_service_pb2.GetSubtaskRequest(task_id=task_id, wait=duration(wait) if wait else None)
        return (await self._caller.unary(self._stub.GetSubtask, request, timeout=wait + DEADLINE)).task

    async def progress(self, text: str) -> None:
        """Show one line of progress of the present task, 1 KiB at most."""
        await self._caller.unary(self._stub.ReportProgress, local_service_pb2.ReportProgressRequest(text=text))

    async def ask_human(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        approve: str | None = None,
        timeout: float = 3600.0,
        question_id: str = "",
    ) -> local_service_pb2.AskHumanResponse:
        """Ask a human about the present task and return the answer; restarts of the control plane are waited for.

        Cancelling withdraws the question.

        Args:
            question: Complete; 4 KiB at most.
            options: Answers to choose from, at most 10.
            approve: A command or diff, as it is, 1 byte to 64 KiB: asks for its approval; `approved` of the answer says whether
                it has it. None: an ordinary question.
            timeout: Seconds to wait, a day at most.
            question_id: Idempotency key; with one, repeating goes on waiting for the same answer, or returns it.

        Raises:
            DeadlineExceededError: Nobody answered in time.
            StaleLeaseError: The task ended meanwhile.
            InvalidArgumentError: It cannot be asked, or there is no present task.
            RateLimitedError: There are too many questions.
        """
        request = local_service_pb2.AskHumanRequest(
            question_id=question_id,
            kind=task_pb2.QUESTION_KIND_QUESTION if approve is None else task_pb2.QUESTION_KIND_APPROVAL,
            text=question,
            options=options,
            raw=approve or "",
            timeout=duration(timeout),
        )
        return await self._caller.unary(self._stub.AskHuman, request, timeout=timeout + DEADLINE)

    async def next_task(self, *, wait: float = 30.0) -> local_service_pb2.NextTaskResponse:
        """Return the next task of this long-running agent, waiting up to `wait` seconds (60 at most).

        Raises:
            DeadlineExceededError: None came; ask again.
        """
        request = local_service_pb2.NextTaskRequest(wait=duration(wait))
        return await self._caller.unary(self._stub.NextTask, request, timeout=wait + DEADLINE)

    async def complete_task(self, task_id: str, summary: str = "", *, failure: task_pb2.TaskFailure | None = None) -> None:
        """End the present task of this long-running agent.

        Args:
            task_id: Which.
            summary: The final words, 64 KiB at most.
            failure: Set if it failed.

        Raises:
            StaleLeaseError: It was cancelled or given to somebody else meanwhile; nothing changed.
        """
        request = local_service_pb2.CompleteTaskRequest(task_id=task_id, summary=summary, failure=failure)
        await self._caller.unary(self._stub.CompleteTask, request)

    async def run(self, work: Callable[[local_service_pb2.NextTaskResponse], Awaitable[str]]) -> None:
        """Take tasks and do them, one after the other, until cancelled.

        Args:
            work: Does one task and returns its summary; what it raises is reported as the task's failure.
        """
        while True:
            try:
                order = await self.next_task()
            except DeadlineExceededError:
                continue
            failure: task_pb2.TaskFailure | None = None
            try:
                summary = await work(order)
            except Exception as error:  # noqa: BLE001 - somebody else's code: its failure is the task's, not the agent's
                summary, failure = (
                    "",
                    task_pb2.TaskFailure(kind=task_pb2.FAILURE_KIND_AGENT_REPORTED, message=f"{type(error).__name__}: {error}"),
                )
            await self.complete_task(order.task_id, summary, failure=failure)

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


def _envelope(data: bytes | message_pb2.Envelope, *, content_type: str, message_id: str, **more: str) -> message_pb2.Envelope:
    """Return the envelope around a payload; one that is given stays as it is."""
    if isinstance(data, message_pb2.Envelope):
        return data
    return message_pb2.Envelope(id=message_id, data=data, data_content_type=content_type, **more)  # type: ignore[arg-type]  # texts only

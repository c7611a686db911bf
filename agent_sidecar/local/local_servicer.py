"""What an agent may ask of its sidecar. One servicer per socket: the socket is the agent's identity."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from google.protobuf import duration_pb2

from agent_sidecar.isolation.interface import Level
from agent_sidecar.local import humans
from agent_sidecar.local.asking import ask, patience
from agent_sidecar.local.calls import ControlPlane
from agent_sidecar.local.humans import QUESTIONS_A_SECOND, QUESTIONS_AT_ONCE, Humans
from agent_sidecar.local.mail import Letters, Post
from agent_sidecar.run.rate import Bucket
from agent_sidecar.run.slot import Desk
from agent_sidecar.run.task import InForce
from claude_conductor.clock import Clock
from claude_conductor.errors import (
    AgentNotFoundError,
    ConductorError,
    InvalidArgumentError,
    PayloadTooLargeError,
    RateLimitedError,
)
from claude_conductor.ids import Mint, message_bytes
from claude_conductor.rpc.status import abort
from claude_conductor.units import format_size
from claude_conductor.v1 import agent_pb2, local_service_pb2, local_service_pb2_grpc, message_pb2, task_pb2

pb = local_service_pb2
_T = TypeVar("_T")
Context = grpc.aio.ServicerContext[Any, Any]
PARENT: Final = "parent"
_MOST_MESSAGES: Final = 1000
_LONGEST_WAIT: Final = 60.0
_SEND_SECONDS: Final = 30.0
_TEXT_BYTES: Final = 1 << 10
_SUMMARY_BYTES: Final = 64 << 10
_ENVELOPE_OVERHEAD: Final = 8 << 10
"""What an envelope may have beside its payload. The control plane ends a session whose frame is larger than it reads at all."""
_NAME_BYTES: Final = 256
_CALLS_A_SECOND: Final = 2000.0
_PROGRESS_A_SECOND: Final = 10.0
"""Each line is a change of the task in the store; more are dropped, as lines of progress may be."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What the agent reaches through its socket."""

    agent_id: str
    desk: Desk
    post: Post
    letters: Letters
    humans: Humans
    control_plane: ControlPlane
    largest_payload: Callable[[], int]
    """Bytes, as the control plane said at its hello."""
    clock: Clock
    mint: Mint


class LocalServicer(local_service_pb2_grpc.LocalServiceServicer):
    """Serves one agent.

    Args:
        reach: What it reaches.
        calls_a_second: Sustained rate; more are refused with RESOURCE_EXHAUSTED.
    """

    def __init__(self, reach: Reach, calls_a_second: float = _CALLS_A_SECOND) -> None:
        self._to = reach
        self._rate = Bucket(calls_a_second, calls_a_second, reach.clock)
        self._question_rate = Bucket(QUESTIONS_A_SECOND, QUESTIONS_AT_ONCE, reach.clock)
        self._progress_rate = Bucket(_PROGRESS_A_SECOND, _PROGRESS_A_SECOND, reach.clock)

    async def GetSelf(self, request: pb.GetSelfRequest, context: Context) -> pb.GetSelfResponse:
        """Say who the agent is."""
        del request
        return await self._answer(context, self._get_self())

    async def Send(self, request: pb.SendRequest, context: Context) -> pb.SendResponse:
        """Send a message."""
        return await self._answer(context, self._send(request, context.time_remaining()))

    async def Request(self, request: pb.RequestRequest, context: Context) -> pb.RequestResponse:
        """Send a message and wait for its answer."""
        return await self._answer(context, self._request(request, context.time_remaining()))

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> pb.SubscribeResponse:
        """Have messages to a topic come to the agent."""
        return await self._answer(context, self._subscribe(request))

    async def Unsubscribe(self, request: pb.UnsubscribeRequest, context: Context) -> pb.UnsubscribeResponse:
        """End a subscription."""
        return await self._answer(context, self._unsubscribe(request))

    async def ListSubscriptions(self, request: pb.ListSubscriptionsRequest, context: Context) -> pb.ListSubscriptionsResponse:
        """List the agent's subscriptions."""
        del request
        return await self._answer(context, self._subscriptions())

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> pb.FetchResponse:
        """Return new messages."""
        return await self._answer(context, self._fetch(request))

    async def Acknowledge(self, request: pb.AcknowledgeRequest, context: Context) -> pb.AcknowledgeResponse:
        """Acknowledge messages."""
        return await self._answer(context, self._acknowledge(request))

    async def ListPeers(self, request: pb.ListPeersRequest, context: Context) -> pb.ListPeersResponse:
        """List the agents of the tenant."""
        del request
        return await self._answer(context, self._list_peers())

    async def SubmitSubtask(self, request: pb.SubmitSubtaskRequest, context: Context) -> pb.SubmitSubtaskResponse:
        """Submit a child of the present task."""
        return await self._answer(context, self._submit(request))

    async def GetSubtask(self, request: pb.GetSubtaskRequest, context: Context) -> pb.GetSubtaskResponse:
        """Return a task, waiting for its end if asked to."""
        return await self._answer(context, self._get_subtask(request))

    async def ReportProgress(self, request: pb.ReportProgressRequest, context: Context) -> pb.ReportProgressResponse:
        """Show a line of progress."""
        return await self._answer(context, self._progress(request))

    async def AskHuman(self, request: pb.AskHumanRequest, context: Context) -> pb.AskHumanResponse:
        """Ask a human about the present task and wait for the answer."""
        return await self._answer(context, self._ask_human(request, context.time_remaining()))

    async def NextTask(self, request: pb.NextTaskRequest, context: Context) -> pb.NextTaskResponse:
        """Wait for the next task."""
        return await self._answer(context, self._next_task(request))

    async def CompleteTask(self, request: pb.CompleteTaskRequest, context: Context) -> pb.CompleteTaskResponse:
        """End the present task."""
        return await self._answer(context, self._complete_task(request))

    async def _answer(self, context: Context, work: Coroutine[Any, Any, _T]) -> _T:
        """Do the work within the rate; an error becomes the call's status."""
        try:
            if not self._rate.allows(1):
                work.close()
                raise RateLimitedError("The agent calls its sidecar too often.", next_step="pause between calls").after(
                    self._rate.missing(1)
                )
            with self._to.desk.calling():
                return await work
        except ConductorError as error:
            await abort(context, error)
            raise

    async def _get_self(self) -> pb.GetSelfResponse:
        present, status = self._to.desk.present, self._to.desk.present_in_force
        return pb.GetSelfResponse(
            agent_id=self._to.agent_id,
            tenant_id=present.tenant_id if present is not None else "",
            task_id=present.lease.task_id if present is not None else "",
            mailbox=present.mailbox if present is not None else self._to.desk.own_mailbox,
            isolation=_status(status) if status is not None else None,
            parent_task_id=present.parent_task_id if present is not None else "",
        )

    async def _send(self, request: pb.SendRequest, remaining: float | None) -> pb.SendResponse:
        envelope = message_pb2.Envelope()
        envelope.CopyFrom(request.envelope)
        size, most = len(envelope.data), self._to.largest_payload()
        if size > most:
            raise PayloadTooLargeError(f"The payload has {format_size(size)}; {format_size(most)} is the most.", bytes=size)
        if envelope.ByteSize() > most + _ENVELOPE_OVERHEAD:
            raise PayloadTooLargeError("The envelope beside its payload is too large.", bytes=envelope.ByteSize(), limit=most)
        envelope.id = envelope.id or self._to.mint("msg_")
        envelope.traceparent = envelope.traceparent or self._to.desk.traceparent
        envelope.source = envelope.source or self._to.agent_id
        now = self._to.clock.now()
        if not envelope.HasField("time"):
            envelope.time.FromMilliseconds(int(now * 1000))
        header = message_pb2.FrameHeader(
            recipient=self._recipient(request.recipient),
            type=_short("envelope.type", envelope.type),
            quality=request.quality or message_pb2.QUALITY_DURABLE,
            message_ids=message_bytes(envelope.id),
            task_id=self._sender_task(),
            hop_count=self._to.letters.hops.of_next(envelope.id),
        )
        if request.HasField("time_to_live"):
            if request.time_to_live.ToNanoseconds() <= 0:
                raise InvalidArgumentError("A time to live is more than nothing.", field="time_to_live")
            header.expire_time_ms = int(now * 1000) + max(1, request.time_to_live.ToMilliseconds())
        # Some of the caller's deadline is left for the answer's way back.
        wait = _SEND_SECONDS if remaining is None else max(0.0, min(_SEND_SECONDS, remaining - 0.05))
        return pb.SendResponse(message_id=envelope.id, recipient_count=await self._to.post.send(header, envelope, wait))

    def _recipient(self, name: str) -> str:
        if name == PARENT:
            present = self._to.desk.present
            if present is None or not present.parent_task_id:
                raise AgentNotFoundError("The present task has no parent.", recipient=name)
            return f"task/{present.parent_task_id}"
        if not name:
            raise InvalidArgumentError("A message needs a recipient.", field="recipient")
        return _short("recipient", name)

    def _sender_task(self) -> str:
        present = self._to.desk.present
        return present.lease.task_id if present is not None and not self._to.desk.own_mailbox else ""

    async def _request(self, request: pb.RequestRequest, remaining: float | None) -> pb.RequestResponse:
        seconds = patience(request, remaining)
        asked = pb.SendRequest(recipient=request.recipient, envelope=request.envelope, quality=request.quality)
        asked.envelope.id = asked.envelope.id or self._to.mint("msg_")
        asked.time_to_live.FromMilliseconds(max(1, int(seconds * 1000)))

        async def send(wait: float) -> int:
            return (await self._send(asked, wait)).recipient_count

        reply = await ask(self._to.letters, self._to.clock, send, asked.envelope.id, seconds)
        return pb.RequestResponse(reply=reply)

    def _own_mailbox(self) -> str:
        present = self._to.desk.present
        mailbox = self._to.desk.own_mailbox or (present.mailbox if present is not None else "")
        if not mailbox:
            raise InvalidArgumentError("There is no present task whose mailbox could be subscribed.")
        return mailbox

    async def _subscribe(self, request: pb.SubscribeRequest) -> pb.SubscribeResponse:
        await self._to.control_plane.subscribe(_short("topic", request.topic), self._own_mailbox())
        return pb.SubscribeResponse()

    async def _unsubscribe(self, request: pb.UnsubscribeRequest) -> pb.UnsubscribeResponse:
        await self._to.control_plane.unsubscribe(_short("topic", request.topic), self._own_mailbox())
        return pb.UnsubscribeResponse()

    async def _subscriptions(self) -> pb.ListSubscriptionsResponse:
        return pb.ListSubscriptionsResponse(topics=await self._to.control_plane.subscriptions(self._own_mailbox()))

    async def _fetch(self, request: pb.FetchRequest) -> pb.FetchResponse:
        most = _bounded("max_messages", request.max_messages or 100, _MOST_MESSAGES)
        request_id = _short("request_id", request.request_id)
        return pb.FetchResponse(messages=await self._to.letters.fetch(most, _seconds(request, 0.0), request_id))

    async def _acknowledge(self, request: pb.AcknowledgeRequest) -> pb.AcknowledgeResponse:
        _bounded("positions", len(request.positions), _MOST_MESSAGES, least=0)
        present = self._to.desk.present
        mailbox = request.mailbox.removeprefix("agent/") or (
            present.mailbox if present is not None else self._to.desk.own_mailbox
        )
        await self._to.letters.acknowledge(mailbox, list(request.positions))
        return pb.AcknowledgeResponse()

    async def _list_peers(self) -> pb.ListPeersResponse:
        return pb.ListPeersResponse(agents=await self._to.control_plane.peers())

    async def _submit(self, request: pb.SubmitSubtaskRequest) -> pb.SubmitSubtaskResponse:
        present = self._to.desk.present
        if present is None:
            raise InvalidArgumentError("There is no present task the subtask could belong to.")
        spec = task_pb2.TaskSpec()
        spec.CopyFrom(request.spec)
        spec.parent_task_id = present.lease.task_id
        task = await self._to.control_plane.submit(spec, _short("request_id", request.request_id), self._to.desk.traceparent)
        return pb.SubmitSubtaskResponse(task=task)

    async def _get_subtask(self, request: pb.GetSubtaskRequest) -> pb.GetSubtaskResponse:
        task_id = _short("task_id", request.task_id)
        return pb.GetSubtaskResponse(task=await self._to.control_plane.task(task_id, _seconds(request, 0.0)))

    async def _progress(self, request: pb.ReportProgressRequest) -> pb.ReportProgressResponse:
        _bounded("text", len(request.text.encode()), _TEXT_BYTES, least=0)
        if self._progress_rate.allows(1):
            await self._to.desk.progress(request.text)
        return pb.ReportProgressResponse()

    async def _ask_human(self, request: pb.AskHumanRequest, remaining: float | None) -> pb.AskHumanResponse:
        seconds, question = humans.patience(request, remaining), humans.question_of(request, self._to.mint)
        with self._to.desk.asking():
            if not self._question_rate.allows(1):
                raise RateLimitedError("The agent asks humans too often.", next_step="pause, or decide by yourself").after(
                    self._question_rate.missing(1)
                )
            present = self._to.desk.present
            if present is None:
                raise InvalidArgumentError("There is no present task to ask about.")
            return humans.response(question, await self._to.humans.ask(present.lease, question, seconds))

    async def _next_task(self, request: pb.NextTaskRequest) -> pb.NextTaskResponse:
        assignment, folder = await self._to.desk.next_task(_seconds(request, 30.0))
        return pb.NextTaskResponse(
            task_id=assignment.lease.task_id,
            spec=task_pb2.TaskSpec.FromString(assignment.spec),
            workspace=folder,
            traceparent=self._to.desk.traceparent,
        )

    async def _complete_task(self, request: pb.CompleteTaskRequest) -> pb.CompleteTaskResponse:
        _bounded("summary", len(request.summary.encode()), _SUMMARY_BYTES, least=0)
        failure = (request.failure.message or "The agent reported failure.") if request.HasField("failure") else None
        await self._to.desk.complete_task(request.task_id, request.summary, failure)
        return pb.CompleteTaskResponse()


def _status(status: InForce) -> agent_pb2.IsolationStatus:
    levels = {
        Level.STRICT: agent_pb2.ISOLATION_LEVEL_STRICT,
        Level.MODERATE: agent_pb2.ISOLATION_LEVEL_MODERATE,
        Level.MINIMAL: agent_pb2.ISOLATION_LEVEL_MINIMAL,
    }
    return agent_pb2.IsolationStatus(
        requested_level=levels[status.requested],
        effective_level=levels[status.effective],
        driver=status.driver,
        mechanisms=status.mechanisms,
        degradations=status.degradations,
    )


def _seconds(request: pb.FetchRequest | pb.GetSubtaskRequest | pb.NextTaskRequest, default: float) -> float:
    """Return how long the call shall wait, 60 s at most."""
    wait: duration_pb2.Duration = request.wait
    seconds = wait.ToMilliseconds() / 1000 if request.HasField("wait") else default
    return max(0.0, min(_LONGEST_WAIT, seconds))


def _bounded(field: str, value: int, most: int, least: int = 1) -> int:
    if not least <= value <= most:
        raise InvalidArgumentError(f"`{field}` has to be from {least} to {most}.", field=field, value=value)
    return value


def _short(field: str, text: str) -> str:
    if len(text.encode()) > _NAME_BYTES:
        raise InvalidArgumentError(f"`{field}` is longer than {_NAME_BYTES} bytes.", field=field)
    return text

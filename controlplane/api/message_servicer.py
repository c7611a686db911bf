"""How does MessageService answer?"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

import grpc

from claude_conductor import ids
from claude_conductor.clock import Clock
from claude_conductor.errors import (
    AgentNotFoundError,
    ConductorError,
    DeadlineExceededError,
    InvalidArgumentError,
    MessageNotFoundError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from claude_conductor.hops import Hops
from claude_conductor.ids import Mint, TenantId
from claude_conductor.v1 import event_pb2, message_pb2, session_service_pb2
from claude_conductor.v1 import message_service_pb2 as pb
from claude_conductor.v1.message_service_pb2_grpc import MessageServiceServicer
from controlplane.api.convert.message import (
    answers_in,
    fate_to_proto,
    header_from_proto,
    received,
    record_to_proto,
    shape_of,
    states_from_proto,
)
from controlplane.api.convert.values import duration, span_of
from controlplane.api.guard.caller import current_caller
from controlplane.api.paging import after_token, after_token_text, page_size, token_for
from controlplane.domain.message import Accepted, Duplicate
from controlplane.domain.routing import CONDUCTOR, OPERATOR, mailbox, mailbox_name, parse_recipient
from controlplane.interfaces.mailbox_store import MailboxStore
from controlplane.interfaces.subscription_store import Subscription
from controlplane.service.letters import Letters, Wish
from controlplane.service.post import Gap, Moving, Post, Unstored
from controlplane.service.relay import Offer, Relay
from controlplane.service.subscribing import Subscribing

_log = logging.getLogger(__name__)
_LONGEST_WAIT = 60.0
_MAX_POSITIONS = 1000
_REQUEST_SECONDS = 30.0
_LONGEST_REQUEST = 3600.0
_MAX_LETTERS = 1000
_MAX_REQUEST_ID = 128
_LARGEST = (1 << 63) - 1
Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class MailServicer(MessageServiceServicer):
    """Serves MessageService for callers without a sidecar."""

    def __init__(
        self,
        store: MailboxStore,
        relay: Relay,
        post: Post,
        letters: Letters,
        subscribing: Subscribing,
        mint: Mint,
        clock: Clock,
        payload_bytes: int,
    ) -> None:
        self._store = store
        self._letters = letters
        self._relay = relay
        self._post = post
        self._subscribing = subscribing
        self._mint = mint
        self._clock = clock
        self._payload_bytes = payload_bytes
        self._hops = Hops()
        """Of what callers have read; forgotten with the process, as beside an agent."""

    async def SendMessage(self, request: pb.SendMessageRequest, context: Context) -> pb.SendMessageResponse:
        """Accept one message."""
        del context
        message_id = request.envelope.id or self._mint("msg_")
        verdict = await self._send(request, message_id)
        duplicate = isinstance(verdict, Duplicate)
        return pb.SendMessageResponse(message_id=message_id, duplicate=duplicate, recipient_count=verdict.recipients)

    async def _send(self, request: pb.SendMessageRequest, message_id: str) -> Accepted | Duplicate:
        caller = current_caller()
        if len(request.envelope.data) > self._payload_bytes:
            raise PayloadTooLargeError(bytes=len(request.envelope.data), limit=self._payload_bytes)
        envelope = message_pb2.Envelope()
        envelope.CopyFrom(request.envelope)
        envelope.id = message_id
        time_to_live = span_of(request.time_to_live, "time_to_live") if request.HasField("time_to_live") else 0.0
        if not time_to_live and request.HasField("time_to_live"):
            raise InvalidArgumentError("A time to live is more than nothing.", field="time_to_live")
        header = message_pb2.FrameHeader(
            recipient=request.recipient,
            type=envelope.type,
            quality=request.quality,
            expire_time_ms=int((self._clock.now() + time_to_live) * 1000) if time_to_live else 0,
            message_ids=ids.message_bytes(envelope.id),
            hop_count=self._hops.of_next(f"{mailbox(caller.tenant_id, OPERATOR)} {envelope.id}"),
        )
        frame = message_pb2.MessageFrame(header=header, envelopes=[envelope])
        shape = shape_of(frame, 0, 0)
        offer = Offer(caller.tenant_id, OPERATOR, header_from_proto(header), shape, frame.SerializeToString())
        (verdict,) = await self._relay.accept([offer])
        if isinstance(verdict, ConductorError):
            raise verdict
        await self._answered(caller.tenant_id, envelope.correlation_id, mailbox_name(request.recipient))
        return verdict

    async def _answered(self, tenant_id: TenantId, question: str, recipient: str) -> None:
        """Acknowledge the question; the answer is accepted, whatever becomes of that."""
        try:
            await self._post.answered(mailbox(tenant_id, OPERATOR), ids.message_bytes(question), recipient)
        except InvalidArgumentError:
            return  # it refers to something else, or to nothing
        except StoreUnavailableError as error:
            _log.warning("a question that was answered stays open", extra={"message": question, "cause": str(error)})

    async def Request(self, request: pb.MessageServiceRequestRequest, context: Context) -> pb.MessageServiceRequestResponse:
        """Accept one message and wait for its answer."""
        del context
        seconds = span_of(request.timeout, "timeout") if request.HasField("timeout") else _REQUEST_SECONDS
        if not 0 < seconds <= _LONGEST_REQUEST:
            raise InvalidArgumentError("A request waits for more than nothing and at most an hour.", field="timeout")
        end = self._clock.monotonic() + seconds
        message_id = request.envelope.id or self._mint("msg_")
        asked = pb.SendMessageRequest(
            recipient=request.recipient, envelope=request.envelope, quality=request.quality, time_to_live=duration(seconds)
        )
        recipients = (await self._send(asked, message_id)).recipients
        if not recipients:
            raise AgentNotFoundError(
                "There is nobody to answer.", next_step="`conductor messages topics` shows who is subscribed"
            )
        key, left = mailbox(current_caller().tenant_id, OPERATOR), end - self._clock.monotonic()
        found = await self._post.answer(key, lambda frame: answers_in(frame, message_id, bounces=recipients == 1), left)
        if found is None:
            advice = "a late answer comes into the mailbox: `conductor messages fetch`"
            raise DeadlineExceededError("No answer came in time.", next_step=advice, message_id=message_id)
        frame, position = found
        (reply, *_) = received(frame, position - 1, self._hops)
        if frame.sender == CONDUCTOR:
            raise AgentNotFoundError(
                f"The message came back: {reply.envelope.data.decode(errors='replace')}.", message_id=message_id
            )
        return pb.MessageServiceRequestResponse(reply=reply)

    async def FetchMessages(self, request: pb.FetchMessagesRequest, context: Context) -> pb.FetchMessagesResponse:
        """Return messages of the caller's mailbox."""
        del context
        limit = page_size(request.max_messages)
        wait = span_of(request.wait, "wait") if request.HasField("wait") else 0.0
        if wait > _LONGEST_WAIT:
            raise InvalidArgumentError("A fetch waits for 60 s at most.", field="wait")
        key = mailbox(current_caller().tenant_id, OPERATOR)
        messages: list[pb.ReceivedMessage] = []
        for frame in await self._post.fetch(key, request.after_position, limit, wait):
            messages += received(frame, request.after_position, self._hops)
        return pb.FetchMessagesResponse(messages=messages[:limit])

    async def AcknowledgeMessages(
        self, request: pb.AcknowledgeMessagesRequest, context: Context
    ) -> pb.AcknowledgeMessagesResponse:
        """Acknowledge messages."""
        del context
        if len(request.positions) > _MAX_POSITIONS:
            raise InvalidArgumentError("At most 1000 messages are acknowledged at once.", field="positions")
        await self._post.acknowledge(mailbox(current_caller().tenant_id, OPERATOR), request.positions)
        return pb.AcknowledgeMessagesResponse()

    async def GetMessage(self, request: pb.GetMessageRequest, context: Context) -> pb.GetMessageResponse:
        """Return one message, a record for each recipient."""
        del context
        tenant_id, message_id = current_caller().tenant_id, ids.message_bytes(request.message_id)
        found = await self._store.find(tenant_id, message_id)
        if not found and await self._store.publication(tenant_id, message_id) is None:
            raise MessageNotFoundError(message_id=request.message_id)
        return pb.GetMessageResponse(records=[record_to_proto(record, frame) for record, frame in found])

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Context) -> pb.ListMessagesResponse:
        """Return a page of messages."""
        del context
        tenant_id = current_caller().tenant_id
        size = page_size(request.page_size)
        key = mailbox(tenant_id, parse_recipient(request.recipient).name) if request.recipient else ""
        states = states_from_proto(list(request.states))
        records = await self._store.list(tenant_id, key, states, after_token(request.page_token), size + 1)
        more = token_for(records[size - 1].key) if len(records) > size else ""
        return pb.ListMessagesResponse(records=[record_to_proto(record) for record in records[:size]], next_page_token=more)

    async def Subscribe(self, request: pb.MessageServiceSubscribeRequest, context: Context) -> pb.MessageServiceSubscribeResponse:
        """Have messages to a topic copied to a mailbox."""
        del context
        caller = current_caller()
        await self._subscribing.subscribe(caller.tenant_id, caller.agent_id, request.topic, request.mailbox)
        return pb.MessageServiceSubscribeResponse()

    async def Unsubscribe(
        self, request: pb.MessageServiceUnsubscribeRequest, context: Context
    ) -> pb.MessageServiceUnsubscribeResponse:
        """End a subscription."""
        del context
        caller = current_caller()
        await self._subscribing.unsubscribe(caller.tenant_id, caller.agent_id, request.topic, request.mailbox)
        return pb.MessageServiceUnsubscribeResponse()

    async def ListSubscriptions(
        self, request: pb.MessageServiceListSubscriptionsRequest, context: Context
    ) -> pb.MessageServiceListSubscriptionsResponse:
        """Return a page of subscriptions."""
        del context
        caller, size = current_caller(), page_size(request.page_size)
        topic, _, name = after_token_text(request.page_token).partition(" ")
        found = await self._subscribing.list(
            caller.tenant_id,
            caller.agent_id,
            request.topic,
            mailbox_name(request.mailbox),
            Subscription(topic, name),
            size + 1,
        )
        last = found[size - 1] if len(found) > size else None
        return pb.MessageServiceListSubscriptionsResponse(
            subscriptions=[pb.Subscription(topic=each.topic, mailbox=each.mailbox) for each in found[:size]],
            next_page_token=token_for(f"{last.topic} {last.mailbox}".encode()) if last is not None else "",
        )

    async def ReceiveMessages(
        self, request: pb.ReceiveMessagesRequest, context: Context
    ) -> AsyncIterator[pb.ReceiveMessagesResponse]:
        """Yield messages of the caller's mailbox from a cursor on, without end."""
        after = request.after_position if request.HasField("after_position") else None
        if after is not None and after > _LARGEST:
            raise InvalidArgumentError("This is no cursor: positions end at 2^63 - 1.", field="after_position", value=after)
        key = mailbox(current_caller().tenant_id, OPERATOR)
        await context.send_initial_metadata(())
        cursor = after or 0
        async for item in self._post.receive(key, after):
            match item:
                case Gap(first=first, last=last):
                    cursor = last if first > cursor else 0
                    yield pb.ReceiveMessagesResponse(gap=event_pb2.Gap(**{"from": first, "to": last}), cursor=cursor)
                case Unstored(frames=frames):
                    for message in (each for frame in frames for each in received(frame, 0, self._hops)):
                        yield pb.ReceiveMessagesResponse(message=message, cursor=cursor)
                case Moving():
                    yield pb.ReceiveMessagesResponse(move=session_service_pb2.Move(), cursor=cursor)
                case (position, frames):
                    for message in (each for frame in frames for each in received(frame, position, self._hops)):
                        cursor = message.position
                        yield pb.ReceiveMessagesResponse(message=message, cursor=cursor)

    async def RedriveMessages(self, request: pb.RedriveMessagesRequest, context: Context) -> pb.RedriveMessagesResponse:
        """Send dead letters again."""
        del context
        fates = await self._letters.redrive(_wish(request.request_id, request.message_ids, request.recipient))
        return pb.RedriveMessagesResponse(outcomes=[fate_to_proto(fate) for fate in fates])

    async def PurgeMessages(self, request: pb.PurgeMessagesRequest, context: Context) -> pb.PurgeMessagesResponse:
        """Remove dead letters."""
        del context
        fates = await self._letters.purge(_wish(request.request_id, request.message_ids, request.recipient))
        return pb.PurgeMessagesResponse(outcomes=[fate_to_proto(fate) for fate in fates])


def _wish(request_id: str, message_ids: Sequence[str], recipient: str) -> Wish:
    if not 0 < len(message_ids) <= _MAX_LETTERS:
        raise InvalidArgumentError(f"1 to {_MAX_LETTERS} messages are named at once.", field="message_ids")
    if len(request_id) > _MAX_REQUEST_ID:
        raise InvalidArgumentError(f"A request id has at most {_MAX_REQUEST_ID} characters.", field="request_id")
    caller, name = current_caller(), parse_recipient(recipient).name if recipient else ""
    return Wish(caller.tenant_id, [ids.message_bytes(each) for each in message_ids], name, caller.name, request_id)

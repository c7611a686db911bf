"""How does somebody without a sidecar send and receive messages?"""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from claude_conductor.client.call import DEADLINE, Caller
from claude_conductor.client.tasks import duration
from claude_conductor.v1 import event_pb2, message_pb2, message_service_pb2, message_service_pb2_grpc

_log = logging.getLogger(__name__)
_LETTERS: Final = 1000
_LETTERS_DEADLINE: Final = 60.0
_MOVE_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was accepted."""

    message_id: str
    duplicate: bool = False
    """Whether this id was accepted before; nothing was stored twice."""
    recipients: int = 1
    """How many mailboxes it goes to: 0 says that nobody will get it."""


class Messages:
    """The mailbox of the caller's identity, and the messages there are."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = message_service_pb2_grpc.MessageServiceStub(caller.channel)

    async def send(
        self,
        recipient: str,
        data: bytes,
        *,
        type: str = "status_update",  # noqa: A002 - the envelope's own word
        message_id: str = "",
        content_type: str = "text/plain; charset=utf-8",
        correlation_id: str = "",
        ephemeral: bool = False,
        time_to_live: float | None = None,
        traceparent: str = "",
    ) -> Sent:
        """Send one message; it is stored (or, if ephemeral, handed over) when this returns.

        Args:
            recipient: Agent id, `task/TASK_ID`, `topic/NAME` or `broadcast`.
            data: The payload.
            type: What kind of message it is.
            message_id: Idempotency key; empty: the control plane mints one.
            content_type: Media type of the payload.
            correlation_id: For a reply: the id of the message it answers.
            ephemeral: Hand it to the recipient's live stream or fail.
            time_to_live: Seconds; None means 24 h.
            traceparent: W3C trace context.

        Raises:
            AgentNotFoundError, AgentOfflineError, MailboxFullError, PayloadTooLargeError: of the control plane.
        """
        envelope = message_pb2.Envelope(
            id=message_id,
            type=type,
            data=data,
            data_content_type=content_type,
            correlation_id=correlation_id,
            traceparent=traceparent,
        )
        request = message_service_pb2.SendMessageRequest(
            recipient=recipient,
            envelope=envelope,
            quality=message_pb2.QUALITY_EPHEMERAL if ephemeral else message_pb2.QUALITY_DURABLE,
            time_to_live=None if time_to_live is None else duration(time_to_live),
        )
        answer = await self._caller.unary(self._stub.SendMessage, request, traceparent=traceparent)
        return Sent(answer.message_id, answer.duplicate, answer.recipient_count)

    async def request(
        self,
        recipient: str,
        data: bytes,
        *,
        type: str = "question",  # noqa: A002 - the envelope's own word
        timeout: float = 30.0,
        message_id: str = "",
        content_type: str = "text/plain; charset=utf-8",
    ) -> message_service_pb2.ReceivedMessage:
        """Send a message and return its answer, which is acknowledged with that. To a topic or to everyone: the first one.

        Args:
            recipient: Agent id, `task/TASK_ID`, `topic/NAME` or `broadcast`.
            data: The payload.
            type: What kind of message it is.
            timeout: Seconds to wait, an hour at most; after that the message is not delivered, and a late answer is fetched.
            message_id: Idempotency key; with one, repeating goes on waiting for the same answer.
            content_type: Media type of the payload.

        Raises:
            DeadlineExceededError: No answer came in time.
            AgentNotFoundError: There is nobody to answer, or the message came back.
        """
        envelope = message_pb2.Envelope(id=message_id, type=type, data=data, data_content_type=content_type)
        request = message_service_pb2.MessageServiceRequestRequest(
            recipient=recipient, envelope=envelope, timeout=duration(timeout)
        )
        return (await self._caller.unary(self._stub.Request, request, timeout=timeout + DEADLINE)).reply

    async def fetch(
        self, *, limit: int = 100, wait: float = 0.0, after_position: int = 0
    ) -> list[message_service_pb2.ReceivedMessage]:
        """Return messages of the caller's mailbox that are not acknowledged, oldest first.

        Args:
            limit: At most this many.
            wait: Seconds to wait for the first, at most 60.
            after_position: Only messages after this one; 0 means from the oldest.
        """
        request = message_service_pb2.FetchMessagesRequest(
            max_messages=limit, wait=duration(wait) if wait else None, after_position=after_position
        )
        answer = await self._caller.unary(self._stub.FetchMessages, request, timeout=wait + DEADLINE)
        return list(answer.messages)

    async def acknowledge(self, positions: Sequence[int]) -> None:
        """Acknowledge messages of the caller's mailbox. Repeating it is harmless.

        Raises:
            MessageNotFoundError: A position never existed.
        """
        request = message_service_pb2.AcknowledgeMessagesRequest(positions=positions)
        await self._caller.unary(self._stub.AcknowledgeMessages, request)

    async def receive(
        self, *, after: int | None = None, on_gap: Callable[[event_pb2.Gap], None] | None = None
    ) -> AsyncGenerator[message_service_pb2.ReceivedMessage, None]:
        """Yield messages of the caller's mailbox as they come, without end, each once, over restarts of the control plane.

        Nothing is acknowledged by this. Ephemeral messages come too; their position is 0, and there is nothing to acknowledge.
        Leaving the iterator ends it.

        Args:
            after: Begin behind this position; None: with the oldest message that is not acknowledged.
            on_gap: Called for messages behind the cursor that ended meanwhile or, if the mailbox has not come as far as the
                cursor, because its positions began anew. Without it a warning is logged.

        Raises:
            InvalidArgumentError: `after` is no position.
            ControlPlaneUnavailableError: It stayed away for 30 s.
        """
        cursor = message_service_pb2.ReceiveMessagesRequest(after_position=after)
        while True:
            async with aclosing(self._caller.resume(self._stub.ReceiveMessages, lambda: cursor)) as answers:
                async for answer in answers:
                    if not answer.HasField("message") or answer.message.position:
                        cursor.after_position = answer.cursor
                    match answer.WhichOneof("item"):
                        case "message":
                            yield answer.message
                        case "gap":
                            (on_gap or _warn)(answer.gap)
            await asyncio.sleep(_MOVE_PAUSE)

    async def redrive(
        self, message_ids: Sequence[str], *, recipient: str = "", request_id: str = ""
    ) -> list[message_service_pb2.LetterOutcome]:
        """Send dead letters again: each goes to the end of its mailbox, its attempts and time to live begin anew.

        Repeating it is harmless. Each outcome has a `reason` if nothing was done.

        Args:
            message_ids: Which.
            recipient: Only in this mailbox.
            request_id: Names the wish in the event log.
        """
        request = message_service_pb2.RedriveMessagesRequest(recipient=recipient, request_id=request_id)
        return await self._letters(self._stub.RedriveMessages, request, message_ids)

    async def purge(
        self, message_ids: Sequence[str], *, recipient: str = "", request_id: str = ""
    ) -> list[message_service_pb2.LetterOutcome]:
        """Remove dead letters for good; arguments and outcomes as for `redrive`."""
        request = message_service_pb2.PurgeMessagesRequest(recipient=recipient, request_id=request_id)
        return await self._letters(self._stub.PurgeMessages, request, message_ids)

    async def _letters(
        self,
        method: Callable[..., Awaitable[Any]],
        request: message_service_pb2.RedriveMessagesRequest | message_service_pb2.PurgeMessagesRequest,
        message_ids: Sequence[str],
    ) -> list[message_service_pb2.LetterOutcome]:
        outcomes: list[message_service_pb2.LetterOutcome] = []
        for start in range(0, len(message_ids), _LETTERS):
            del request.message_ids[:]
            request.message_ids.extend(message_ids[start : start + _LETTERS])
            outcomes += (await self._caller.unary(method, request, timeout=_LETTERS_DEADLINE)).outcomes
        return outcomes

    async def get(self, message_id: str) -> list[message_pb2.MessageRecord]:
        """Return a message with its states, one record per recipient.

        Raises:
            MessageNotFoundError: There is none.
        """
        request = message_service_pb2.GetMessageRequest(message_id=message_id)
        return list((await self._caller.unary(self._stub.GetMessage, request)).records)

    async def list(
        self, *, limit: int = 100, recipient: str = "", states: Sequence[message_pb2.MessageState.ValueType] = ()
    ) -> list[message_pb2.MessageRecord]:
        """Return up to `limit` messages, newest first, over as many pages as it takes."""
        found: list[message_pb2.MessageRecord] = []
        token = ""
        while len(found) < limit:
            request = message_service_pb2.ListMessagesRequest(
                page_size=min(1000, limit - len(found)), page_token=token, recipient=recipient, states=states
            )
            answer = await self._caller.unary(self._stub.ListMessages, request)
            found += answer.records
            token = answer.next_page_token
            if not token:
                break
        return found

    async def subscribe(self, topic: str) -> None:
        """Have messages to `topic/NAME` come to the caller's mailbox; `broadcast`: those to everyone. Repeating it is harmless.

        Raises:
            SubscriptionLimitError: The mailbox or the topic has as many as allowed.
        """
        await self._caller.unary(self._stub.Subscribe, message_service_pb2.MessageServiceSubscribeRequest(topic=topic))

    async def unsubscribe(self, topic: str, *, mailbox: str = "") -> None:
        """End a subscription of the caller's mailbox, or of `mailbox`. Repeating it is harmless."""
        request = message_service_pb2.MessageServiceUnsubscribeRequest(topic=topic, mailbox=mailbox)
        await self._caller.unary(self._stub.Unsubscribe, request)

    async def subscriptions(self, *, topic: str = "", mailbox: str = "") -> builtins.list[message_service_pb2.Subscription]:
        """Return every subscription by topic, then mailbox; both filter if not empty."""
        found: builtins.list[message_service_pb2.Subscription] = []
        token = ""
        while True:
            request = message_service_pb2.MessageServiceListSubscriptionsRequest(
                page_size=1000, page_token=token, topic=topic, mailbox=mailbox
            )
            answer = await self._caller.unary(self._stub.ListSubscriptions, request)
            found += answer.subscriptions
            token = answer.next_page_token
            if not token:
                return found


def _warn(gap: event_pb2.Gap) -> None:
    _log.warning("messages were missed", extra={"first": getattr(gap, "from"), "last": gap.to})

"""How an agent's message gets its answer: batched while the journal is busy, within the control plane's credit, once per id."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from agent_sidecar.uplink.frames import Answer, Frame, Kind, Refusal, content_size
from agent_sidecar.uplink.outbox import BATCH_BYTES, Outbox
from claude_conductor.clock import Clock, SystemClock
from claude_conductor.errors import (
    AgentOfflineError,
    ConductorError,
    ControlPlaneUnavailableError,
    MailboxFullError,
    RateLimitedError,
    StoreUnavailableError,
)
from claude_conductor.rpc.status import from_reason
from claude_conductor.v1 import message_pb2, session_service_pb2

_MOST_IN_A_FRAME: Final = 256
_MOST_WAITING: Final = 1024
_MOST_WAITING_BYTES: Final = 8 << 20
MOST_UNDER_WAY: Final = 10_000
"""As many as the control plane gives credit for."""


@dataclass(slots=True)
class _Message:
    """A message on its way; repeats of its id wait for the same answer."""

    header: message_pb2.FrameHeader
    envelope: bytes
    """Empty once it is journalled."""
    answer: asyncio.Future[Answer]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Messages with the same one may share a frame."""
        return self.header.recipient, self.header.type, self.header.quality, self.header.expire_time_ms


@dataclass(slots=True)
class _Allowance:
    """What the control plane can take; None before it said anything and while it is away: the journal takes it."""

    messages: int | None = None
    bytes: int | None = None
    most: tuple[int, int] = (0, 0)
    """What the session began with. What is sent again from the journal was paid for in an earlier session, and is given back in
    this one; without this bound every reconnect would let more run ahead."""

    def covers(self, size: int) -> bool:
        """Tell whether one more message may go."""
        return (self.messages is None or self.messages > 0) and (self.bytes is None or self.bytes >= min(size, 1 << 20))

    def add(self, messages: int, size: int) -> None:
        """Add what is given back; a negative number is spent."""
        if self.messages is not None and self.bytes is not None:
            self.messages = min(self.messages + messages, self.most[0])
            self.bytes = min(self.bytes + size, self.most[1])


class Sender:
    """Sends messages through the outbox.

    A sender that the control plane calls too fast is held back here until it may go on: what waits is refused with the time that
    is left, as it would be there, and nothing overtakes what was refused first.

    Args:
        outbox: Journals them.
        clock: Tells how long that is.
        most_under_way: Messages without an answer, journalled ones included.
    """

    def __init__(self, outbox: Outbox, clock: Clock | None = None, most_under_way: int = MOST_UNDER_WAY) -> None:
        self._outbox = outbox
        self._clock = clock or SystemClock()
        self._most_under_way = most_under_way
        self._held_until = 0.0
        self._queue: deque[_Message] = deque()
        self._queue_bytes = 0
        self._busy = False
        self._under_way: dict[bytes, _Message] = {}
        self._allowance = _Allowance()

    def credit(self, messages: int, size: int, *, first: bool) -> None:
        """Take note of what the control plane can take: the first of a session replaces what was left, later ones add."""
        if first or self._allowance.messages is None:
            self._allowance = _Allowance(messages, size, (messages, size))
        else:
            self._allowance.add(messages, size)
        self._flush()

    def disconnected(self) -> None:
        """The session ended: its credit is void, and messages wait in the journal."""
        self._allowance = _Allowance()
        self._flush()

    async def send(self, header: message_pb2.FrameHeader, envelope: message_pb2.Envelope, wait: float) -> int:
        """Send a message and return once the control plane has accepted it: for how many mailboxes.

        Args:
            header: With the id of this one message.
            envelope: The message.
            wait: Seconds to wait for the answer.

        Raises:
            AgentNotFoundError: And the other reasons for which the control plane refuses messages.
            MailboxFullError: The sidecar's own queue or journal is full.
            RateLimitedError: The agent sends too fast; it carries the seconds to wait.
            ControlPlaneUnavailableError: There was no answer in time; the message may still arrive. Repeat it with the same id.
        """
        if header.quality == message_pb2.QUALITY_EPHEMERAL and not self._outbox.connected:
            raise AgentOfflineError("The control plane is away, and an ephemeral message does not wait.")
        message = self._under_way.get(header.message_ids)
        if message is None:
            message = self._enqueue(header, envelope)
        try:
            async with asyncio.timeout(wait):
                answer = await asyncio.shield(message.answer)
        except TimeoutError as cause:
            raise _unknown("The control plane did not answer in time.") from cause
        except asyncio.CancelledError:
            if not message.answer.cancelled():
                raise
            raise _unknown("The connection was lost before the answer came.") from None
        if isinstance(answer, Refusal):
            raise error_of(answer)
        return answer.recipients if answer is not None else 1

    def _enqueue(self, header: message_pb2.FrameHeader, envelope: message_pb2.Envelope) -> _Message:
        if (held := self._held_until - self._clock.monotonic()) > 0:
            raise RateLimitedError().after(held)
        body = envelope.SerializeToString()
        full = len(self._queue) >= _MOST_WAITING or len(self._under_way) >= self._most_under_way
        full = full or self._queue_bytes + len(body) > _MOST_WAITING_BYTES
        if full or not self._outbox.takes_message(len(body) + self._queue_bytes):
            raise MailboxFullError(
                "The sidecar's queue is full; nothing was stored.",
                next_step="send again later: the control plane has to catch up",
            )
        loop = asyncio.get_running_loop()
        message = _Message(header, body, loop.create_future())
        self._under_way[header.message_ids] = message
        message.answer.add_done_callback(lambda _: self._under_way.pop(header.message_ids, None))
        self._queue.append(message)
        self._queue_bytes += len(body)
        self._flush()
        return message

    def _flush(self) -> None:
        """Journal what waits, unless the journal is busy with the last batch: then it goes with the next."""
        while not self._busy and self._queue and self._allowance.covers(len(self._queue[0].envelope)):
            group = self._next_group()
            self._busy = True
            self._journal(group)

    def _next_group(self) -> list[_Message]:
        group: list[_Message] = []
        size = 0
        while self._queue and len(group) < _MOST_IN_A_FRAME:
            message = self._queue[0]
            fits = not group or (message.key == group[0].key and size + len(message.envelope) <= BATCH_BYTES)
            if not fits or not self._allowance.covers(len(message.envelope)):
                break
            self._queue.popleft()
            self._queue_bytes -= len(message.envelope)
            self._allowance.add(-1, -len(message.envelope))
            size += len(message.envelope)
            group.append(message)
        return group

    def _journal(self, group: list[_Message]) -> None:
        header = message_pb2.FrameHeader()
        header.CopyFrom(group[0].header)
        header.message_ids = b"".join(message.header.message_ids for message in group)
        frame = message_pb2.MessageFrame(
            header=header, envelopes=[message_pb2.Envelope.FromString(message.envelope) for message in group]
        )
        body = session_service_pb2.ConnectRequest(message_frame=frame).SerializeToString()
        counted = sum(len(message.envelope) for message in group)
        for message in group:
            message.envelope = b""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: self._answered(done, group))
        allowance, cost = self._allowance, content_size(len(body))
        allowance.add(0, counted - cost)  # what is around the envelopes counts too
        kind = Kind.PASSING if header.quality == message_pb2.QUALITY_EPHEMERAL else Kind.MESSAGE
        appended = self._outbox.append(Frame(kind, body), answer=answer)
        appended.add_done_callback(lambda done: self._journalled(done, group, allowance, cost))

    def _journalled(self, appended: asyncio.Future[int], group: list[_Message], allowance: _Allowance, cost: int) -> None:
        self._busy = False
        error = None if appended.cancelled() else appended.exception()
        if error is not None:
            allowance.add(len(group), cost)
            for message in group:
                if not message.answer.done():
                    message.answer.set_result(Refusal(StoreUnavailableError.reason, str(error), 1.0))
        self._flush()

    def _answered(self, answer: asyncio.Future[Answer], group: list[_Message]) -> None:
        refusal = None if answer.cancelled() else answer.result()
        _pass_on(answer, group)
        if isinstance(refusal, Refusal) and refusal.reason == RateLimitedError.reason:
            self._held_until = self._clock.monotonic() + refusal.retry_seconds
            waiting, self._queue, self._queue_bytes = list(self._queue), deque(), 0
            _pass_on(answer, waiting)


def _pass_on(answer: asyncio.Future[Answer], group: list[_Message]) -> None:
    for message in group:
        if message.answer.done():
            continue
        if answer.cancelled():
            message.answer.cancel()
        else:
            message.answer.set_result(answer.result())


def _unknown(what: str) -> ControlPlaneUnavailableError:
    return ControlPlaneUnavailableError(
        f"{what} Whether the message was accepted is not known.", next_step="send it again with the same id: it is accepted once"
    )


def error_of(refusal: Refusal) -> ConductorError:
    """Return the error of a refused frame."""
    return from_reason(refusal.reason, refusal.message).after(refusal.retry_seconds or None)

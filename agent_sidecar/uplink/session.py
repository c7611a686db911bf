"""One connection to the control plane, from hello to its end: a read loop, a write loop, and a heartbeat beside them.

The heartbeat is queued by the loop that handles the work and written by the one writer, so that a stuck loop is seen by its
missed beats; HTTP/2 pings, which other threads answer, only tell that the process and the link are there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from agent_sidecar.run.slot import Slot
from agent_sidecar.run.task import Lease
from agent_sidecar.uplink import convert
from agent_sidecar.uplink.frames import Entry, Published, Refusal, content_size, number_size
from agent_sidecar.uplink.inbox import Inbox
from agent_sidecar.uplink.notes import Notes
from agent_sidecar.uplink.outbox import Outbox
from agent_sidecar.uplink.questions import Questions
from agent_sidecar.uplink.sending import Sender
from claude_conductor.errors import (
    ConductorError,
    ControlPlaneUnavailableError,
    MalformedFrameError,
    ProtocolVersionError,
)
from claude_conductor.groups import sole
from claude_conductor.rpc.channel import Metadata
from claude_conductor.v1.session_service_pb2 import ConnectRequest, ConnectResponse, SidecarHello, Welcome

_log = logging.getLogger(__name__)
PROTOCOL_VERSION: Final = 1000
_METHOD: Final = "/claude_conductor.v1.SessionService/Connect"
_WELCOME_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 30.0
_HEARTBEAT_SECONDS: Final = 5.0
_LEAVE_SECONDS: Final = 2.0
Call = Any
"""The stream: grpc.aio.StreamStreamCall of bytes and bytes; its stubs' type parameters do not exist at run time."""


class SessionEndedError(Exception):
    """The session is over in an ordinary way; carries where to go next, if anywhere else."""

    def __init__(self, address: str = "", *, at_once: bool = False) -> None:
        super().__init__(address)
        self.address = address
        self.at_once = at_once
        """The next session is to begin without a pause: this one was handed over."""


@dataclass(slots=True)
class Terms:
    """What the control plane said at its hello. Times in seconds, sizes in bytes."""

    session_id: str = ""
    heartbeat_interval: float = _HEARTBEAT_SECONDS
    lease_duration: float = 15.0
    max_payload_bytes: int = 1 << 20
    leaving: bool = False
    """Ours: the next heartbeat is the last one."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a session connects."""

    outbox: Outbox
    inbox: Inbox
    sender: Sender
    slot: Slot
    stop_grace: float
    questions: Questions
    terms: Terms = field(default_factory=Terms)
    """Filled in at each welcome."""
    on_hold: Callable[[str, float, float], None] = lambda *_: None
    """Told of a credential that takes no requests: its id, and the seconds until its reset and until our turn."""


class Session:
    """One connection.

    Args:
        channel: To the control plane.
        metadata: Says who calls.
        hello: Returns the hello, without what `parts` know.
        parts: What is connected.
        on_welcome: Called once the session stands.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: Metadata,
        hello: Callable[[], SidecarHello],
        parts: Parts,
        on_welcome: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._metadata = metadata
        self._hello = hello
        self._parts = parts
        self._on_welcome = on_welcome
        self._notes = Notes()
        self._again: list[Entry] = []
        """Results that were refused for now; numbered anew with the next heartbeat."""
        self._wake = asyncio.Event()
        self._sent = 0
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """End the session in order: nothing more is sent, and what was sent is waited for."""
        self._leaving.set()
        self._wake.set()

    async def run(self) -> None:
        """Serve until the connection ends.

        Raises:
            SessionEndedError: The control plane asked to go elsewhere, or ended the stream.
            grpc.aio.AioRpcError: The call failed.
            ControlPlaneUnavailableError: It did not answer in time.
            StoreUnavailableError: The journal could not be read or written.
        """
        open_stream: Callable[..., Call] = self._channel.stream_stream(
            _METHOD, request_serializer=None, response_deserializer=None
        )
        call = open_stream(metadata=self._metadata)
        try:
            welcome = await self._greet(call)
            self._sent = self._parts.outbox.resume(welcome.committed_sequence)
            self._agree(welcome)
            self._on_welcome()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(call), name="session reader")
                group.create_task(self._write(call), name="session writer")
                group.create_task(self._beat(), name="session heartbeat")
                group.create_task(self._left_in_time(), name="session hand-over")
        except ExceptionGroup as ends:
            error = sole(ends, SessionEndedError, grpc.aio.AioRpcError, ConductorError)
            raise error from error.__cause__
        finally:
            self._parts.outbox.disconnected(self._sent if self._leaving.is_set() else None)
            self._parts.outbox.on_ready(_nothing)
            self._parts.sender.disconnected()
            self._parts.inbox.end_session()
            call.cancel()

    async def _greet(self, call: Call) -> Welcome:
        hello = self._hello()
        hello.protocol_version = PROTOCOL_VERSION
        hello.active_leases.extend(convert.lease_to(lease) for lease in self._leases())
        hello.mailbox_positions.update(self._parts.inbox.positions())
        if (status := self._parts.slot.in_force()) is not None:
            hello.isolation.CopyFrom(convert.in_force_to(status))
        try:
            async with asyncio.timeout(_WELCOME_SECONDS):
                await call.write(ConnectRequest(hello=hello).SerializeToString())
                answer, _ = await _receive(call)
        except TimeoutError as cause:
            raise ControlPlaneUnavailableError("The control plane did not answer the hello.") from cause
        if not answer.HasField("welcome"):
            raise MalformedFrameError("The first frame of the control plane is not its hello.")
        welcome: Welcome = answer.welcome
        if welcome.protocol_version // 1000 != PROTOCOL_VERSION // 1000:
            raise ProtocolVersionError(ours=PROTOCOL_VERSION, theirs=welcome.protocol_version)
        return welcome

    def _agree(self, welcome: Welcome) -> None:
        terms = self._parts.terms
        terms.session_id = welcome.session_id
        terms.heartbeat_interval = welcome.heartbeat_interval.ToMicroseconds() / 1e6 or _HEARTBEAT_SECONDS
        terms.lease_duration = welcome.lease_duration.ToMicroseconds() / 1e6 or 3 * terms.heartbeat_interval
        terms.max_payload_bytes = welcome.max_payload_bytes or 1 << 20
        self._parts.outbox.on_ready(self._wake.set)
        self._wake.set()
        if welcome.HasField("credit"):
            self._parts.sender.credit(welcome.credit.messages, welcome.credit.bytes, first=True)
        self._note_heartbeat()
        self._parts.inbox.begin_session(self._note_credit, welcome.max_message_attempts)

    def _leases(self) -> tuple[Lease, ...]:
        return tuple(dict.fromkeys((*self._parts.slot.leases(), *self._parts.outbox.uncommitted_leases())))

    def _note_credit(self, messages: int, size: int) -> None:
        self._notes.credit(messages, size)
        self._wake.set()

    def _note_heartbeat(self) -> None:
        self._notes.beat(convert.heartbeat_to(self._leases(), self._parts.slot.condition(), leaving=self._parts.terms.leaving))
        self._wake.set()

    async def _beat(self) -> None:
        """Give a sign of life at the interval, and at once when the slot begins or ends something."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._parts.terms.heartbeat_interval):
                    await self._parts.slot.changed.wait()
            self._parts.slot.changed.clear()
            self._note_heartbeat()
            while self._again:
                await self._parts.outbox.repeat(self._again.pop())

    async def _left_in_time(self) -> None:
        await self._leaving.wait()
        await asyncio.sleep(_LEAVE_SECONDS)
        raise SessionEndedError(at_once=True)

    async def _write(self, call: Call) -> None:
        """Write notes as they come and journalled frames in their order, one write at a time."""
        while not self._leaving.is_set():
            await self._wake.wait()
            self._wake.clear()
            while not self._leaving.is_set() and (frames := await self._parts.outbox.batch(self._sent)):
                for sequence, frame in frames:
                    await self._write_notes(call)
                    await _send(call, frame)
                    self._sent = sequence
            await self._write_notes(call)
        await call.done_writing()

    async def _write_notes(self, call: Call) -> None:
        while (note := self._notes.take()) is not None:
            await _send(call, note.SerializeToString())

    async def _read(self, call: Call) -> None:
        while True:
            try:
                answer, size = await _receive(call)
            except SessionEndedError as end:
                raise SessionEndedError(at_once=self._leaving.is_set()) from end
            await self._take(answer, size)

    async def _take(self, answer: ConnectResponse, size: int) -> None:
        parts = self._parts
        match answer.WhichOneof("frame"):
            case "committed":
                self._committed(answer)
            case "delivery":
                word = answer.delivery.committed_sequence
                if word:
                    parts.outbox.committed(word, {})
                await parts.inbox.deliver(answer.delivery, content_size(size) - number_size(word))
            case "assignment":
                assignment = convert.assignment_from(answer.assignment)
                if assignment.lease not in parts.slot.leases():
                    await parts.inbox.closed(assignment.mailbox)
                parts.slot.assign(assignment)
                if assignment.lease in parts.slot.leases():
                    parts.inbox.opened(assignment.mailbox)
            case "cancellation":
                lease = convert.lease_from(answer.cancellation.lease)
                parts.slot.cancel(lease, convert.cancellation_from(answer.cancellation, parts.stop_grace))
            case "credit":
                parts.sender.credit(answer.credit.messages, answer.credit.bytes, first=False)
            case "leases_revoked":
                parts.slot.revoke([convert.lease_from(lease) for lease in answer.leases_revoked.leases])
            case "move":
                raise SessionEndedError(answer.move.address)
            case _:
                self._hear(answer)

    def _hear(self, answer: ConnectResponse) -> None:
        """Take what the agent waits for."""
        parts = self._parts
        match answer.WhichOneof("frame"):
            case "question_closed":
                closed = answer.question_closed
                parts.questions.closed(convert.lease_from(closed.lease), closed.question_id, convert.closed_from(closed))
            case "credential_hold":
                told = answer.credential_hold
                parts.on_hold(told.credential_id, told.reset.ToMicroseconds() / 1e6, told.turn.ToMicroseconds() / 1e6)
            case kind:
                _log.debug("frame of an unknown kind was ignored", extra={"kind": kind or "unknown"})

    def _committed(self, answer: ConnectResponse) -> None:
        refused = {
            each.sequence: Refusal(each.reason, each.message, each.retry_delay.ToMicroseconds() / 1e6)
            for each in answer.committed.refused
        }
        for number, refusal in refused.items():
            _log.debug("frame was refused", extra={"sequence": number, "reason": refusal.reason})
        published = {each.sequence: Published(each.recipients) for each in answer.committed.published}
        again = self._parts.outbox.committed(answer.committed.sequence, refused, published)
        self._again += [entry for entry, _ in again]


async def _send(call: Call, frame: bytes) -> None:
    try:
        async with asyncio.timeout(_WRITE_SECONDS):
            await call.write(frame)
    except TimeoutError as cause:
        raise ControlPlaneUnavailableError("The control plane does not read.") from cause
    except asyncio.InvalidStateError as cause:
        raise SessionEndedError from cause


async def _receive(call: Call) -> tuple[ConnectResponse, int]:
    """Return the next frame and its bytes on the wire."""
    raw = await call.read()
    if raw is grpc.aio.EOF:
        await _raise_status(call)
    try:
        return ConnectResponse.FromString(raw), len(raw)
    except DecodeError as cause:
        raise MalformedFrameError("A frame of the control plane is not valid protobuf.", bytes=len(raw)) from cause


async def _raise_status(call: Call) -> None:
    """Raise what ended the stream."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        raise SessionEndedError
    raise grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), await call.details(), None)


def _nothing() -> None:
    """There is no session to wake."""

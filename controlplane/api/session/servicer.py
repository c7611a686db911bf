"""How does a session run, from its first byte to its last?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeAlias, TypeVar

import grpc

from claude_conductor.errors import ConductorError, ControlPlaneUnavailableError, DeadlineExceededError, MalformedFrameError
from claude_conductor.groups import sole
from claude_conductor.ids import Mint
from claude_conductor.v1 import session_service_pb2 as pb
from controlplane.api.convert.values import duration
from controlplane.api.guard.caller import current_agent
from controlplane.api.session.frozen import Watchdog
from controlplane.api.session.peek import Decoder, Grant
from controlplane.api.session.writer import StreamBounds, Writer
from controlplane.service.mail import Mail
from controlplane.service.results import HasStarted
from controlplane.service.sessions import PROTOCOL_VERSION, Beat, Hello, Numbered, Receipts, Session, Sessions

HELLO_SECONDS = 10.0
PENDING_FRAMES = 4096
"""Frames of one sidecar that wait to be stored; past it its stream is not read."""
_UNHURRIED = (Receipts, HasStarted)
"""Nobody waits for the word that these were taken. That a task started is mostly followed by more soon."""
METHOD = "/claude_conductor.v1.SessionService/Connect"

_P = ParamSpec("_P")
_T = TypeVar("_T")
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Terms:
    """What every session is told. Times in seconds."""

    lease_seconds: float
    heartbeat_seconds: float
    payload_bytes: int
    message_attempts: int = 5
    bounds: StreamBounds = StreamBounds()


@dataclass(slots=True)
class _Inbox:
    """Frames that were read and are not stored yet, bounded: past `most` bytes the stream is not read."""

    most: int

    frames: list[Numbered] = field(default_factory=list)
    bytes: int = 0
    storing: int = 0
    """Bytes that were taken and are not stored yet."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False
    """A round is being stored."""
    finished: bool = False

    @property
    def idle(self) -> bool:
        """Whether nothing stands before a frame that is read now."""
        return not self.busy and not self.frames

    async def put(self, frame: Numbered, size: int) -> None:
        while self.bytes + self.storing > self.most or len(self.frames) >= PENDING_FRAMES:
            self.taken.clear()
            await self.taken.wait()
        self.frames.append(frame)
        self.bytes += size
        self.arrived.set()

    def take(self) -> list[Numbered]:
        """Return what is to be stored next; it counts until it is settled."""
        frames, self.frames = self.frames, []
        self.storing, self.bytes = self.bytes, 0
        self.busy = bool(frames)
        self.taken.set()
        return frames

    def settled(self) -> None:
        """What was taken is stored or refused."""
        self.storing, self.busy = 0, False
        self.taken.set()

    def finish(self) -> None:
        self.finished = True
        self.arrived.set()


class SessionServicer:
    """Serves SessionService.Connect on bytes, so that the envelopes of messages pass through unread."""

    def __init__(self, sessions: Sessions, mail: Mail, terms: Terms, mint: Mint, *, tracing: bool) -> None:
        self._sessions = sessions
        self._mail = mail
        self._terms = terms
        self._mint = mint
        self._tracing = tracing
        self._watchdog = Watchdog(terms.lease_seconds / 2)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what the server needs; without serialisers gRPC hands bytes over."""
        connect: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.connect)
        return grpc.method_handlers_generic_handler("claude_conductor.v1.SessionService", {"Connect": connect})

    async def connect(self, requests: object, context: Context) -> None:
        """Run one session until either side ends it.

        Raises:
            ConductorError: The session could not begin, or cannot go on.
        """
        del requests  # read() and write() cost less than an iterator and a generator
        decoder = Decoder(self._terms.payload_bytes, tracing=self._tracing)
        tenant_id, agent_id = current_agent()
        hello = await self._hello(decoder, context)
        writer = Writer(self._mail.link_has_room, self._terms.bounds)
        await _begin(context)
        session = await self._sessions.open(tenant_id, agent_id, hello, writer)
        reason = "its stream ended"
        try:
            writer.welcome(self._welcome(session))
            await self._sessions.begin(session, hello)
            with self._watchdog.watching(writer):
                await self._run(session, decoder, writer, context)
        except ConductorError as error:
            reason = error.message
            raise
        finally:
            await self._sessions.close(session, reason)

    async def _hello(self, decoder: Decoder, context: Context) -> Hello:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                raw = await _unbroken(context.read)
        except TimeoutError as cause:
            raise DeadlineExceededError("The sidecar did not say hello in time.", seconds=HELLO_SECONDS) from cause
        hello = decoder.decode(raw) if isinstance(raw, bytes) else None
        if not isinstance(hello, Hello):
            raise MalformedFrameError("The first frame of a session is a hello.")
        return hello

    def _welcome(self, session: Session) -> bytes:
        welcome = pb.Welcome(
            protocol_version=PROTOCOL_VERSION,
            session_id=self._mint("session_"),
            committed_sequence=session.committed,
            lease_duration=duration(self._terms.lease_seconds),
            heartbeat_interval=duration(self._terms.heartbeat_seconds),
            credit=pb.Credit(messages=self._terms.bounds.ahead_messages, bytes=self._terms.bounds.ahead_bytes),
            max_payload_bytes=self._terms.payload_bytes,
            max_message_attempts=self._terms.message_attempts,
        )
        return pb.ConnectResponse(welcome=welcome).SerializeToString()

    async def _run(self, session: Session, decoder: Decoder, writer: Writer, context: Context) -> None:
        inbox = _Inbox(2 * self._terms.bounds.ahead_bytes)  # messages, and as much again for reports and receipts
        try:
            async with asyncio.TaskGroup() as group:
                name = f"session {session.agent_id}"
                writing = group.create_task(_unbroken(writer.run, context.write), name=f"{name} writer")
                committing = group.create_task(self._commit(session, inbox, writer), name=f"{name} commit")
                await _unbroken(self._read, session, decoder, writer, inbox, context.read)
                inbox.finish()
                await committing
                writing.cancel()
        except ExceptionGroup as failed:
            error = sole(failed, ConductorError)
            raise error from error.__cause__
        await _unbroken(writer.drain, context.write)

    async def _read(
        self, session: Session, decoder: Decoder, writer: Writer, inbox: _Inbox, read: Callable[[], Awaitable[bytes]]
    ) -> None:
        while isinstance(raw := await read(), bytes):
            writer.heard += 1
            match decoder.decode(raw):
                case Numbered() as frame:
                    if inbox.idle and self._sessions.passed(session, frame):
                        writer.committed(session.committed, (), frame.messages, frame.bytes)
                        await asyncio.sleep(0)  # so that its recipient's writer goes before the next read is asked for
                    else:
                        await inbox.put(frame, len(raw))
                case Beat() as beat:
                    self._sessions.heartbeat(session, beat)
                    if beat.leaving:
                        return
                case Grant(messages=messages, bytes=size):
                    writer.grant(messages, size)
                case Hello():
                    raise MalformedFrameError("A session has one hello.")
                case None:
                    continue

    async def _commit(self, session: Session, inbox: _Inbox, writer: Writer) -> None:
        """Store what has come, again and again; what comes while one round runs is the next round."""
        while not (inbox.finished and not inbox.frames):
            await inbox.arrived.wait()
            inbox.arrived.clear()
            frames = inbox.take()
            if frames:
                await self._take(session, frames, writer)
                inbox.settled()
            if inbox.finished:
                inbox.arrived.set()

    async def _take(self, session: Session, frames: list[Numbered], writer: Writer) -> None:
        answers = await self._sessions.commit(session, frames)
        messages, used = sum(frame.messages for frame in frames), sum(frame.bytes for frame in frames)
        receipts = all(isinstance(frame.content, _UNHURRIED) for frame in frames)
        writer.committed(session.committed, answers, messages, used, receipts=receipts)
        await writer.answered()


async def _begin(context: Context) -> None:
    """Send the headers by themselves. With the first write they are lost track of if that is cancelled, and no status follows."""
    await _unbroken(context.send_initial_metadata, ())


async def _unbroken(step: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Wait for something that reads or writes.

    Raises:
        ControlPlaneUnavailableError: The sidecar went away meanwhile.
    """
    try:
        return await step(*args, **kwargs)
    except grpc.aio.InternalError as cause:
        raise ControlPlaneUnavailableError("The stream ended.") from cause

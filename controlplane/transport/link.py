"""How does a connection of the event loop carry calls? Bytes to HTTP/2 and its events to calls; and the way back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from controlplane.transport import answers
from controlplane.transport.call import Call
from controlplane.transport.http2.codes import ErrorCode
from controlplane.transport.http2.connection import Connection
from controlplane.transport.http2.events import BodyArrived, ConnectionEnded, Drained, Event, RequestBegan, StreamEnded
from controlplane.transport.http2.settings import Announced
from controlplane.transport.identity import NOBODY, identity, speaks_http2
from controlplane.transport.invocation import invocation
from controlplane.transport.limits import Limits
from controlplane.transport.liveness import Liveness, Verdict
from controlplane.transport.refusal import CallRefusedError, NotGrpcError

_BUFFERED: Final = 256 << 10
"""Bytes the transport keeps before data waits in its stream."""
_UNREAD: Final = 1 << 20
"""Bytes that are no data, written while the transport takes no more; past it the peer is cut off."""
_JOINED: Final = 32 << 10
"""Up to this many bytes, copying them together is cheaper than handing over each piece."""
_LAST_WORD_SECONDS: Final = 1.0
"""How long a peer that did something wrong has to read why. Closing while bytes of it are unread would throw our word away."""


class Link(asyncio.Protocol):
    """One connection, and the calls on it."""

    def __init__(self, limits: Limits, serve: Callable[[Call], asyncio.Task[None]], over: Callable[[Link], None]) -> None:
        """Begin unconnected.

        Args:
            limits: What is taken.
            serve: Starts to serve a call.
            over: Called once the connection is lost.
        """
        self._limits = limits
        self._serve = serve
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._liveness = Liveness(limits, self._loop.time())
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Call] = {}
        self._serving = 0
        """Calls whose handler has not ended, those the peer gave up included."""
        self._heard = False
        self._receiving = False
        """While events are handled nothing is handed over: their answers leave together."""
        self._leaving = False
        self._closing = False
        """Everything was said."""
        self._unread = 0
        self.connection = Connection(
            Announced(max_concurrent_streams=limits.concurrent_streams, max_header_list_size=2 * limits.metadata)
        )
        self.peer = "unknown"
        self.identity = NOBODY

    # What the event loop tells -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we take; a server need not wait for the client's preface."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class has no bases
        self._transport.set_write_buffer_limits(high=_BUFFERED)
        self.peer = _address(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            if not speaks_http2(tls):
                self.abort()
                return
            self.identity = identity(tls)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Handle what the peer sent, then send everything that follows from it at once."""
        self._heard = True
        self._receiving = True
        try:
            for event in self.connection.receive(data, self._loop.time()):
                self._handle(event)
        finally:
            self._receiving = False
        self.flush()
        self._close_if_done()

    def eof_received(self) -> None:
        """Let the transport close: a client that closes its half has ended its calls."""

    def connection_lost(self, error: Exception | None) -> None:
        """End every call."""
        del error
        self._transport = None
        self.connection.over = True
        self._lose_calls()
        self._over(self)

    def pause_writing(self) -> None:
        """Hold data back."""
        self._unread = 0
        self.connection.set_writable(writable=False)

    def resume_writing(self) -> None:
        """Send what was held back."""
        for event in self.connection.set_writable(writable=True):
            self._handle(event)
        self.flush()

    # What the server wants ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hand over what the connection has written."""
        if self._receiving or not (written := self.connection.take_written()) or self._transport is None or self._closing:
            return
        size = sum([len(piece) for piece in written])
        if not self.connection.writable:
            self._unread += size
            if self._unread > _UNREAD:
                self.abort()
                return
        if size <= _JOINED:
            self._transport.write(b"".join(written))
        else:
            self._transport.writelines(written)

    def leave(self) -> None:
        """Take no new calls, and close once those there are have ended."""
        self._leaving = True
        self.connection.leave()
        self.flush()
        self._close_if_done()

    def stop_calls(self) -> None:
        """End the calls there are."""
        for call in list(self._calls.values()):
            call.stop()
        self._close_if_done()

    def abort(self) -> None:
        """Close at once; what is not sent yet is lost."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, now: float) -> None:
        """See whether the peer is still there."""
        blocked = not self.connection.writable
        verdict = self._liveness.look(now, ready=self.connection.ready, heard=self._heard, blocked=blocked)
        self._heard = False
        if verdict is Verdict.ASK:
            self.connection.send_ping()
            self.flush()
        elif verdict is Verdict.DEAD:
            self.abort()

    # What follows from events ------------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        match event:
            case BodyArrived(stream, data, ended):
                if (call := self._calls.get(stream.id)) is not None:
                    call.arrived(data, ended=ended)
            case Drained(stream):
                if (call := self._calls.get(stream.id)) is not None:
                    call.drained()
            case RequestBegan():
                self._begin(event)
            case StreamEnded(stream):
                if (call := self._calls.pop(stream.id, None)) is not None:
                    call.lose()
            case ConnectionEnded():
                self._lose_calls()
                self._leaving = True

    def _begin(self, began: RequestBegan) -> None:
        stream = began.stream
        if self._serving >= self._limits.concurrent_streams:  # streams the peer reset have handlers that are not done yet
            self.connection.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        try:
            called = invocation(began.head, self._limits.metadata)
        except NotGrpcError as other:
            self.connection.send_trailers(stream, answers.http_status(other.status))
            return
        except CallRefusedError as refused:
            self.connection.send_trailers(stream, answers.end(refused.code, refused.details, alone=True))
            return
        call = self._calls[stream.id] = Call(self, stream, called, self._limits)
        self._serving += 1
        call.task = self._serve(call)
        call.task.add_done_callback(lambda _: self._served(stream.id, call))

    def _served(self, stream_id: int, call: Call) -> None:
        self._serving -= 1
        call.close()
        self._calls.pop(stream_id, None)
        self._close_if_done()

    def _lose_calls(self) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.lose()

    def _close_if_done(self) -> None:
        if not self._leaving or self._closing or self._transport is None:
            return
        if self.connection.over and self._transport.can_write_eof():
            self._closing = True
            self._transport.write_eof()
            self._loop.call_later(_LAST_WORD_SECONDS, self.abort)
        elif self.connection.over or self.connection.idle:
            self._closing = True
            self._transport.close()


def _address(transport: asyncio.BaseTransport) -> str:
    own = transport.get_extra_info("socket")
    if own is None or own.family == socket.AF_UNIX:
        return "unix:"
    name = transport.get_extra_info("peername")
    family = "ipv6" if own.family == socket.AF_INET6 else "ipv4"
    host = f"[{name[0]}]" if family == "ipv6" else name[0]
    return f"{family}:{host}:{name[1]}"

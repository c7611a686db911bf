"""What follows from each frame? One connection of a server, without I/O (RFC 9113).

`receive` takes what arrived and returns what it means; everything that is to be sent, also in answer to it, stands in
`take_written` afterwards. The state of the whole connection is here and in the parts it is made of.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from controlplane.transport.http2 import codes, frames, shape
from controlplane.transport.http2.codes import ErrorCode, PeerConnectionError, PeerStreamError
from controlplane.transport.http2.events import BodyArrived, ConnectionEnded, Drained, Event, RequestBegan, StreamEnded
from controlplane.transport.http2.flood import Allowances
from controlplane.transport.http2.flow import Inflow
from controlplane.transport.http2.frames import Frame, FrameReader
from controlplane.transport.http2.header_block import WITHOUT_TABLE, BlockReader
from controlplane.transport.http2.outflow import Outflow
from controlplane.transport.http2.request_head import check_trailers, request_head
from controlplane.transport.http2.settings import Announced, PeerSettings
from controlplane.transport.http2.stream import Stream

_BLOCK_FACTOR: Final = 4
"""How much larger than announced a header list may be before the connection ends for it, and not only the request."""
_PING_BYTES: Final = 8


class Connection:
    """The server's end of one HTTP/2 connection."""

    def __init__(self, announced: Announced) -> None:
        """Begin before the client's preface; our settings are written already.

        Args:
            announced: What we take.
        """
        self._announced = announced
        self._peer = PeerSettings()
        self._preface = frames.PREFACE
        """What is still to come of it."""
        self._reader = FrameReader(announced.max_frame_size)
        self._blocks = BlockReader(announced.max_header_list_size * _BLOCK_FACTOR)
        self._inflow = Inflow(codes.DEFAULT_WINDOW, announced.connection_window)
        self._allowances = Allowances()
        self._outflow = Outflow(self._peer, self._answered)
        self._streams: dict[int, Stream] = {}
        self._last_id = 0
        """The peer's highest number so far."""
        self._taken_id = 0
        """The highest of which a request was or will be looked at; GOAWAY says it, and never a higher one later."""
        self._left: deque[int] = deque(maxlen=2 * announced.max_concurrent_streams)
        """Streams that we ended while the peer may still have been sending; what comes on them is nobody's fault."""
        self._bodies = 0
        self._header_prefix = WITHOUT_TABLE
        self._seen_settings = False
        self._leaving = False
        self.over = False
        """Nothing can be received or sent any more but what is written."""
        self._write(frames.settings(announced.values()))
        self._write(frames.window_update(0, self._inflow.read(0)))

    @property
    def ready(self) -> bool:
        """Whether the peer has shown that it speaks HTTP/2."""
        return self._seen_settings

    @property
    def idle(self) -> bool:
        """Whether there is no stream."""
        return not self._streams

    @property
    def writable(self) -> bool:
        """Whether data is sent; what is not data always is."""
        return self._outflow.writable

    def take_written(self) -> list[bytes]:
        """Return what is to be sent now, in order, and forget it."""
        written = self._outflow.written
        self._outflow.written = []
        return written

    # What the peer does ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take what arrived, and return what it means, in order. Faults of the peer are answered, not raised.

        Args:
            data: Bytes in whatever pieces.
            now: A time in seconds that never goes back.
        """
        events: list[Event] = []
        if self.over:
            return events
        try:
            if self._preface:
                data = self._past_preface(data)
            for frame in self._reader.feed(data):
                try:
                    if frame.kind == codes.DATA and not self._blocks.stream_id and self._seen_settings:
                        self._data(frame, now, events)
                    else:
                        self._frame(frame, now, events)
                except PeerStreamError as fault:
                    self._allowances.resets.take(now)
                    self._give_up(fault.stream_id, fault.code, events)
        except PeerConnectionError as fault:
            self._fail(fault.code, fault.message)
            events.append(ConnectionEnded(fault.code, fault.message))
        return events

    def _past_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "this is no HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _frame(self, frame: Frame, now: float, events: list[Event]) -> None:
        if self._blocks.stream_id and (frame.kind != codes.CONTINUATION or frame.stream_id != self._blocks.stream_id):
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "a header block that is interrupted")
        if not self._seen_settings and (frame.kind != codes.SETTINGS or frame.flags & codes.ACK):
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "the first frame is SETTINGS")
        shape.check(frame)
        match frame.kind:
            case codes.HEADERS:
                self._headers(frame, now, events)
            case codes.CONTINUATION:
                self._continuation(frame, now, events)
            case codes.WINDOW_UPDATE:
                self._window_update(frame, events)
            case codes.PING:
                self._ping(frame, now)
            case codes.SETTINGS:
                self._settings(frame, now, events)
            case codes.RST_STREAM:
                self._rst_stream(frame, now, events)
            case codes.PRIORITY:
                frames.check_dependency(frame.stream_id, frame.payload)
            case codes.PUSH_PROMISE:
                raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "a client does not push")
            case _:  # GOAWAY: what the client began goes on. Unknown kinds are ignored (RFC 9113, section 5.5)
                return

    def _data(self, frame: Frame, now: float, events: list[Event]) -> None:
        size = len(frame.payload)
        if not self._inflow.took(size):
            raise PeerConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        if increment := self._inflow.read(size):
            self._write(frames.window_update(0, increment))
        self._bodies += 1
        stream = self._streams.get(frame.stream_id)
        if stream is None or stream.ended_in:
            self._unexpected(frame, now)
            return
        if not stream.inflow.took(size):
            raise PeerStreamError(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
        data = frame.payload
        if frame.flags & codes.PADDED:
            data = frames.content(frame)
            self.read(stream, size - len(data))
        ended = bool(frame.flags & codes.END_STREAM)
        if not (data or ended):
            self._allowances.empty.take(now)
        if not stream.counts(len(data), ended=ended):
            raise PeerStreamError(stream.id, ErrorCode.PROTOCOL_ERROR, "a body of another length than promised")
        events.append(BodyArrived(stream, data, ended))
        if ended:
            self._forget_if_done(stream)

    def _unexpected(self, frame: Frame, now: float) -> None:
        """Judge DATA on a stream that takes none."""
        shape.check(frame)
        if frame.stream_id > self._last_id:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "data on a stream that was not opened")
        if frame.stream_id in self._left:
            if not frame.payload:
                self._allowances.empty.take(now)
            return
        raise PeerStreamError(frame.stream_id, ErrorCode.STREAM_CLOSED, "data after the end of a stream")

    def _headers(self, frame: Frame, now: float, events: list[Event]) -> None:
        if frame.stream_id % 2 == 0:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        self._blocks.begin(frame.stream_id, end_stream=bool(frame.flags & codes.END_STREAM))
        fault: PeerStreamError | None = None
        try:
            fragment = frames.content(frame)
        except PeerStreamError as found:  # its headers are read all the same: they change the table of the next ones
            fault, fragment = found, frames.content(frame._replace(stream_id=0))
        self._blocks.add(fragment)
        if frame.flags & codes.END_HEADERS:
            self._block(now, events)
        if fault is not None:
            raise fault

    def _continuation(self, frame: Frame, now: float, events: list[Event]) -> None:
        if not self._blocks.stream_id:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "nothing to be continued")
        self._blocks.add(frame.payload)
        if frame.flags & codes.END_HEADERS:
            self._block(now, events)

    def _block(self, now: float, events: list[Event]) -> None:
        stream_id, ended = self._blocks.stream_id, self._blocks.end_stream
        headers = self._blocks.finish()
        stream = self._streams.get(stream_id)
        if stream is not None:
            if stream.ended_in:
                raise PeerStreamError(stream_id, ErrorCode.STREAM_CLOSED, "headers after the end of a request")
            if not ended:
                raise PeerStreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "trailers that do not end the request")
            check_trailers(stream_id, headers)
            if not stream.counts(0, ended=True):
                raise PeerStreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "a body of another length than promised")
            events.append(BodyArrived(stream, b"", ended=True))
            self._forget_if_done(stream)
            return
        if stream_id <= self._last_id:
            if stream_id not in self._left:
                raise PeerConnectionError(ErrorCode.STREAM_CLOSED, "headers on a stream that has ended")
            return
        self._last_id = stream_id
        if self._leaving:
            return  # the client was told, and may ask elsewhere
        self._taken_id = stream_id
        head = request_head(stream_id, headers)
        if len(self._streams) >= self._announced.max_concurrent_streams:
            raise PeerStreamError(stream_id, ErrorCode.REFUSED_STREAM, "more streams at once than announced")
        inflow = Inflow(self._announced.stream_window)
        stream = self._streams[stream_id] = Stream(stream_id, inflow, self._peer.initial_window, head.content_length)
        if ended and not stream.counts(0, ended=True):
            raise PeerStreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "a body of another length than promised")
        events.append(RequestBegan(stream, head, ended))

    def _rst_stream(self, frame: Frame, now: float, events: list[Event]) -> None:
        self._known(frame)
        stream = self._streams.pop(frame.stream_id, None)
        if stream is None:
            return
        self._allowances.resets.take(now)
        self._outflow.drop(stream)
        events.append(StreamEnded(stream, _error_code(frames.number(frame.payload))))

    def _window_update(self, frame: Frame, events: list[Event]) -> None:
        increment = frames.number(frame.payload) & codes.LARGEST_WINDOW
        if frame.stream_id == 0:
            self._outflow.window += increment
            if not increment or self._outflow.window > codes.LARGEST_WINDOW:
                raise PeerConnectionError(*_window_fault(increment))
        else:
            self._known(frame)
            stream = self._streams.get(frame.stream_id)
            if stream is None:
                return
            stream.window += increment
            if not increment or stream.window > codes.LARGEST_WINDOW:
                raise PeerStreamError(frame.stream_id, *_window_fault(increment))
            self._outflow.opened(stream)
        events += self._pumped()

    def _settings(self, frame: Frame, now: float, events: list[Event]) -> None:
        if frame.flags & codes.ACK:
            return
        self._allowances.settings.take(now)
        grown = self._peer.take(frames.settings_in(frame.payload))
        for stream in self._streams.values():
            stream.window += grown
            if stream.window > codes.LARGEST_WINDOW:
                raise PeerConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window of more than 2^31 - 1 bytes")
            self._outflow.opened(stream)
        self._seen_settings = True
        self._write(frames.SETTINGS_ACK)
        events += self._pumped()

    def _ping(self, frame: Frame, now: float) -> None:
        if not frame.flags & codes.ACK:
            self._allowances.ping(now, self._outflow.messages + self._bodies)
            self._write(frames.ping(frame.payload, ack=True))

    def _known(self, frame: Frame) -> None:
        if frame.stream_id > self._last_id:
            raise PeerConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was not opened")

    # What we do --------------------------------------------------------------------------------------------------------------

    def read(self, stream: Stream, size: int) -> None:
        """Note that bytes of a request's body are out of the way, so that more may come."""
        if (increment := stream.inflow.read(size)) and not stream.ended_in:
            self._write(frames.window_update(stream.id, increment))

    def widen(self, stream: Stream, size: int) -> None:
        """Let a peer send this many bytes ahead on a stream that is read."""
        if (increment := stream.inflow.widen(size)) and not stream.ended_in:
            self._write(frames.window_update(stream.id, increment))

    def demand(self, stream: Stream, size: int) -> None:
        """Let the rest of one message come, however large: this many bytes."""
        if (increment := stream.inflow.demand(size)) and not stream.ended_in:
            self._write(frames.window_update(stream.id, increment))

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """Begin an answer. The block is one of `header_block.encode`."""
        self._write(frames.headers(stream.id, self._first(block), self._peer.max_frame_size, end_stream=False))

    def send_message(self, stream: Stream, message: bytes) -> bool:
        """Send a message of gRPC, and tell whether all of it was written; otherwise `Drained` follows."""
        return self._outflow.send(stream, message)

    def send_trailers(self, stream: Stream, block: bytes) -> None:
        """End an answer, behind what waits of it. The block may be its only one."""
        self._outflow.end(stream, self._first(block))

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Give a stream up."""
        self._give_up(stream.id, code, [])

    def send_ping(self) -> None:
        """Ask for a sign of life; any frame is one."""
        self._write(frames.ping(bytes(_PING_BYTES), ack=False))

    def set_writable(self, *, writable: bool) -> list[Event]:
        """Note whether the transport takes data, and return what follows."""
        self._outflow.writable = writable
        return self._pumped()

    def leave(self) -> None:
        """Take no new streams from now on; those there are go on."""
        if not (self._leaving or self.over):
            self._leaving = True
            self._write(frames.goaway(self._taken_id, ErrorCode.NO_ERROR))

    def _first(self, block: bytes) -> bytes:
        prefix, self._header_prefix = self._header_prefix, b""
        return prefix + block

    def _write(self, frame: bytes) -> None:
        self._outflow.written.append(frame)

    def _pumped(self) -> list[Event]:
        return [Drained(stream) for stream in self._outflow.pump()]

    def _answered(self, stream: Stream) -> None:
        stream.ended_out = True
        if not stream.ended_in:  # nobody reads the rest of the request (RFC 9113, section 8.1)
            self._write(frames.rst_stream(stream.id, ErrorCode.NO_ERROR))
            self._left.append(stream.id)
            stream.ended_in = True
        self._forget_if_done(stream)

    def _forget_if_done(self, stream: Stream) -> None:
        if stream.ended_in and stream.ended_out:
            self._streams.pop(stream.id, None)

    def _give_up(self, stream_id: int, code: ErrorCode, events: list[Event]) -> None:
        self._write(frames.rst_stream(stream_id, code))
        self._left.append(stream_id)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._outflow.drop(stream)
            events.append(StreamEnded(stream, code))

    def _fail(self, code: ErrorCode, reason: str) -> None:
        self.over = True
        self._streams.clear()
        self._write(frames.goaway(self._taken_id, code, reason))


def _window_fault(increment: int) -> tuple[ErrorCode, str]:
    if increment:
        return ErrorCode.FLOW_CONTROL_ERROR, "a window of more than 2^31 - 1 bytes"
    return ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing"


def _error_code(value: int) -> ErrorCode:
    """Return a code; those nobody knows count as INTERNAL_ERROR (RFC 9113, section 7)."""
    try:
        return ErrorCode(value)
    except ValueError:
        return ErrorCode.INTERNAL_ERROR

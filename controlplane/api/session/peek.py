"""How does a frame of messages pass through without being taken apart?

The one place of the exception to "proto messages stop at api/convert". Everything is parsed once by protobuf's C code, so that
nothing a recipient could not read ever reaches one, and of messages nothing but the header is looked at. A ConnectRequest whose
only content is a sequence and a message frame, written in the order of the field numbers, is recognised by its first bytes; the
frame's bytes then go on to the recipient as they came. Of every other encoding the frame is written anew, with the same verdict.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from claude_conductor.errors import ConductorError, MalformedFrameError
from claude_conductor.v1 import message_pb2, session_service_pb2
from controlplane.api.convert import session
from controlplane.api.convert.message import header_from_proto, shape_of
from controlplane.api.session.encode import varint
from controlplane.domain.routing import ENVELOPE_OVERHEAD
from controlplane.service.sessions import Beat, Content, Hello, Message, Numbered

_FRAME_TAG: Final = b"\x1a"  # ConnectRequest.message_frame: field 3, length-delimited
_LONGEST_LENGTH: Final = 4


class Grant:
    """How much more the sidecar can take."""

    __slots__ = ("bytes", "messages")

    def __init__(self, messages: int, size: int) -> None:
        self.messages = messages
        self.bytes = size


Frame = Hello | Beat | Grant | Numbered | None
"""A frame of a sidecar; None is one without a number that this version does not know."""


class Decoder:
    """Understands the frames of one session."""

    def __init__(self, payload_bytes: int, *, tracing: bool) -> None:
        """Choose what is looked at.

        Args:
            payload_bytes: Frames below this size cannot hold a payload that is too large, so their envelopes are not measured.
            tracing: Whether to look for a sampled trace context in the first envelope of a frame.
        """
        self._small = payload_bytes + ENVELOPE_OVERHEAD
        self._tracing = tracing

    def decode(self, raw: bytes) -> Frame:
        """Return what the bytes mean.

        Raises:
            MalformedFrameError: They are no ConnectRequest, or one that breaks its own rules of numbering.
        """
        try:
            request = session_service_pb2.ConnectRequest.FromString(raw)
        except DecodeError as cause:
            raise MalformedFrameError("A frame is not valid protobuf.", bytes=len(raw)) from cause
        if request.HasField("message_frame"):
            sequence, frame = request.sequence, request.message_frame
            body = untouched(raw, sequence)
            return self._message(sequence, frame, frame.SerializeToString() if body is None else body)
        return self._other(request)

    def _message(self, sequence: int, frame: message_pb2.MessageFrame, body: bytes) -> Numbered:
        _check_number(sequence)
        shape = shape_of(frame, len(body), self._small)
        try:
            content: Content = Message(header_from_proto(frame.header), shape, body, self._sampled(frame))
        except ConductorError as error:
            content = error
        return Numbered(sequence, content, shape.envelopes, len(body))

    def _sampled(self, frame: message_pb2.MessageFrame) -> str:
        if not self._tracing or not frame.envelopes:
            return ""
        traceparent = frame.envelopes[0].traceparent
        return traceparent if traceparent[-1:] in {"1", "3", "5", "7", "9", "b", "d", "f"} else ""

    def _other(self, request: session_service_pb2.ConnectRequest) -> Frame:
        match request.WhichOneof("frame"):
            case "hello":
                return session.hello_from_proto(request.hello)
            case "heartbeat":
                return session.beat_from_proto(request.heartbeat)
            case "credit":
                return Grant(request.credit.messages, request.credit.bytes)
            case None if request.sequence == 0:
                return None
            case kind:
                _check_number(request.sequence)
                return Numbered(request.sequence, _content(request, kind))


def _content(request: session_service_pb2.ConnectRequest, kind: str | None) -> Content:
    try:
        if kind == "receipts":
            return session.receipts_from_proto(request.receipts)
        if kind == "report":
            return session.report_from_proto(request.report)
    except ConductorError as error:
        return error
    return MalformedFrameError("This version of the protocol does not know a frame of this kind.")


def _check_number(sequence: int) -> None:
    if sequence == 0:
        raise MalformedFrameError("Message frames, receipts and reports carry their number in the sidecar's journal.")


def untouched(raw: bytes, sequence: int) -> bytes | None:
    """Return the bytes of the message frame as they came, or None if they do not stand where they are looked for.

    Args:
        raw: A valid ConnectRequest with a message frame.
        sequence: The number it was parsed to have.
    """
    start = b"\x08" + varint(sequence) + _FRAME_TAG
    rest = len(raw) - len(start)
    for digits in range(1, _LONGEST_LENGTH + 1):
        if rest - digits < 1 << 7 * digits:  # the one length that leads to the very end
            start += varint(max(0, rest - digits))
            return raw[len(start) :] if raw.startswith(start) else None
    return None

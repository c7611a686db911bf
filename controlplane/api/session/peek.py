"""How does a frame of messages pass through without being taken apart?

The one place of the exception to "proto messages stop at api/convert". A ConnectRequest whose only content is a sequence and a
message frame, written in the order of the field numbers, is recognised by its first bytes; the frame's bytes then go on to the
recipient as they came. They are parsed once by protobuf's C code, so that nothing a recipient could not read ever reaches one,
and nothing but the header is looked at. Every other encoding is parsed as a whole, with the same verdict.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from claude_conductor.errors import ConductorError, MalformedFrameError
from claude_conductor.v1 import message_pb2, session_service_pb2
from controlplane.api.convert import session
from controlplane.api.convert.message import header_from_proto, shape_of
from controlplane.domain.routing import ENVELOPE_OVERHEAD
from controlplane.service.sessions import Beat, Content, Hello, Message, Numbered

_FRAME_TAG: Final = 0x1A  # field 3, length-delimited
_LONGEST_LENGTH: Final = 4
_LONGEST_SEQUENCE: Final = 9


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
        found = split(raw)
        try:
            if found is not None:
                sequence, body = found
                return self._message(sequence, message_pb2.MessageFrame.FromString(body), body)
            request = session_service_pb2.ConnectRequest.FromString(raw)
        except DecodeError as cause:
            raise MalformedFrameError("A frame is not valid protobuf.", bytes=len(raw)) from cause
        return self._other(request)

    def _message(self, sequence: int, frame: message_pb2.MessageFrame, body: bytes) -> Numbered:
        _check_number(sequence)
        try:
            shape = shape_of(frame, len(body), self._small)
            message = Message(header_from_proto(frame.header), shape, body, self._sampled(frame))
        except ConductorError as error:
            return Numbered(sequence, error, len(frame.envelopes), len(body))
        return Numbered(sequence, message, len(frame.envelopes), len(body))

    def _sampled(self, frame: message_pb2.MessageFrame) -> str:
        if not self._tracing or not frame.envelopes:
            return ""
        traceparent = frame.envelopes[0].traceparent
        return traceparent if traceparent[-1:] in {"1", "3", "5", "7", "9", "b", "d", "f"} else ""

    def _other(self, request: session_service_pb2.ConnectRequest) -> Frame:
        match request.WhichOneof("frame"):
            case "message_frame":
                return self._message(request.sequence, request.message_frame, request.message_frame.SerializeToString())
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


def split(raw: bytes) -> tuple[int, bytes] | None:
    """Return (sequence, bytes of the message frame), or None if the bytes are not of the one shape that is recognised."""
    sequence, place = 0, 0
    if raw[:1] == b"\x08":
        sequence, place = _varint(raw, 1, _LONGEST_SEQUENCE)
    if place < 0 or len(raw) <= place or raw[place] != _FRAME_TAG:
        return None
    length, start = _varint(raw, place + 1, _LONGEST_LENGTH)
    if start < 0 or start + length != len(raw):
        return None
    return sequence, raw[start:]


def _varint(raw: bytes, place: int, longest: int) -> tuple[int, int]:
    """Return (value, place behind it); a place of -1 says that there is none of at most `longest` bytes."""
    value = shift = 0
    for index in range(place, min(place + longest, len(raw))):
        byte = raw[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    return 0, -1

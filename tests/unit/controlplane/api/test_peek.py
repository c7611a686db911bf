"""The fast path says of every frame what a full parse says, and hostile bytes only ever raise MalformedFrameError."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.errors import InvalidArgumentError, MalformedFrameError
from claude_conductor.v1 import message_pb2, session_service_pb2
from controlplane.api.session.encode import varint
from controlplane.api.session.peek import Decoder, Frame, untouched
from controlplane.domain.routing import Shape
from controlplane.service.sessions import Message, Numbered

PAYLOAD = 1000
DECODER = Decoder(PAYLOAD, tracing=True)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

envelopes = st.builds(
    message_pb2.Envelope,
    id=st.text(max_size=40),
    type=st.text(max_size=10),
    data=st.binary(max_size=300),
    traceparent=st.sampled_from(["", TRACEPARENT, TRACEPARENT[:-1] + "0"]),
)
headers = st.builds(
    message_pb2.FrameHeader,
    recipient=st.text(max_size=20),
    quality=st.sampled_from([0, 1, 2]),
    hop_count=st.integers(0, 2**32 - 1),
    expire_time_ms=st.integers(0, 2**64 - 1),
    message_ids=st.binary(max_size=64),
    task_id=st.text(max_size=10),
)
frames = st.builds(message_pb2.MessageFrame, header=headers, envelopes=st.lists(envelopes, max_size=4))
requests = st.builds(session_service_pb2.ConnectRequest, sequence=st.integers(1, 2**64 - 1), message_frame=frames)


def verdict(frame: Frame) -> object:
    assert isinstance(frame, Numbered)
    content = frame.content
    if isinstance(content, Message):
        shape = Shape(content.shape.envelopes, content.shape.largest > PAYLOAD)
        parsed = message_pb2.MessageFrame.FromString(content.frame)
        return frame.sequence, content.header, shape, content.traceparent, parsed.SerializeToString(deterministic=True)
    return frame.sequence, str(content)


def in_full(raw: bytes) -> Frame:
    """What a parse without the fast path says."""
    request = session_service_pb2.ConnectRequest.FromString(raw)
    if request.HasField("message_frame"):
        return DECODER._message(request.sequence, request.message_frame, request.message_frame.SerializeToString())
    return DECODER._other(request)


@given(requests)
def test_both_ways_say_the_same_of_what_protobuf_writes(request: session_service_pb2.ConnectRequest) -> None:
    raw = request.SerializeToString()
    assert untouched(raw, request.sequence) == raw[-request.message_frame.ByteSize() or len(raw) :]
    assert verdict(DECODER.decode(raw)) == verdict(in_full(raw))


@given(requests)
def test_fields_in_another_order_mean_the_same(request: session_service_pb2.ConnectRequest) -> None:
    body = request.message_frame.SerializeToString()
    swapped = b"\x1a" + varint(len(body)) + body + b"\x08" + varint(request.sequence)
    assert untouched(swapped, request.sequence) is None
    assert verdict(DECODER.decode(swapped)) == verdict(in_full(request.SerializeToString()))


@given(raw=st.one_of(st.binary(max_size=200), requests.map(lambda request: request.SerializeToString())), data=st.data())
def test_both_ways_say_the_same_of_damaged_bytes(raw: bytes, data: st.DataObject) -> None:
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            place = data.draw(st.integers(0, len(damaged) - 1))
            damaged[place] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    seen = bytes(damaged)
    try:
        full: object = in_full(seen)
    except (DecodeError, MalformedFrameError):
        full = MalformedFrameError
    except InvalidArgumentError:  # a hello or heartbeat whose values cannot be used
        full = InvalidArgumentError
    if isinstance(full, type):
        with pytest.raises(full):
            DECODER.decode(seen)
    elif isinstance(full, Numbered):
        assert verdict(DECODER.decode(seen)) == verdict(full)
    else:
        assert type(DECODER.decode(seen)) is type(full)


def test_the_bytes_of_a_frame_pass_through_as_they_came() -> None:
    unknown = b"\xfa\x7f\x03new"  # field 2047: of a later version of the protocol
    frame = message_pb2.MessageFrame(header=message_pb2.FrameHeader(recipient="a")).SerializeToString() + unknown
    decoded = DECODER.decode(b"\x08\x05\x1a" + varint(len(frame)) + frame)
    assert isinstance(decoded, Numbered)
    assert isinstance(decoded.content, Message)
    assert (decoded.sequence, decoded.content.frame) == (5, frame)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x1a\x00",  # no number
        b"\x08\x01\x1a\x05\x0a\x00",  # shorter than it says
        b"\x08\x01\x1a\x02\x0a\x05",  # a header longer than its frame
        b"\x08\x01\x1a\x04\x12\x02\x0a\xff",  # an envelope that ends within a field
        b"\x08\x01\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length beyond any
        b"\x08" + b"\xff" * 11,
    ],
)
def test_hostile_bytes_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        DECODER.decode(raw)


def test_a_frame_with_a_number_but_no_known_content_is_answered_and_one_without_is_passed_over() -> None:
    later = b"\xfa\x7f\x03new"
    numbered = DECODER.decode(b"\x08\x07" + later)
    assert isinstance(numbered, Numbered)
    assert isinstance(numbered.content, MalformedFrameError)
    assert DECODER.decode(later) is None


def test_only_sampled_traces_are_looked_up() -> None:
    def traced(traceparent: str, decoder: Decoder) -> str:
        frame = message_pb2.MessageFrame(envelopes=[message_pb2.Envelope(traceparent=traceparent)])
        raw = session_service_pb2.ConnectRequest(sequence=1, message_frame=frame).SerializeToString()
        decoded = decoder.decode(raw)
        assert isinstance(decoded, Numbered)
        assert isinstance(decoded.content, Message)
        return decoded.content.traceparent

    assert traced(TRACEPARENT, DECODER) == TRACEPARENT
    assert traced(TRACEPARENT[:-1] + "0", DECODER) == ""
    assert traced(TRACEPARENT, Decoder(PAYLOAD, tracing=False)) == ""


def test_a_message_that_is_refused_gives_back_the_credit_it_used() -> None:
    frame = message_pb2.MessageFrame(header={"quality": 7}, envelopes=[message_pb2.Envelope(), message_pb2.Envelope()])
    raw = session_service_pb2.ConnectRequest(sequence=1, message_frame=frame).SerializeToString()
    decoded = DECODER.decode(raw)
    assert isinstance(decoded, Numbered)
    assert isinstance(decoded.content, InvalidArgumentError)
    assert (decoded.messages, decoded.bytes) == (2, frame.ByteSize())


def overlong(value: int, extra: int) -> bytes:
    """A varint with up to `extra` bytes that say nothing, ten in all at most (protobuf encoding)."""
    plain = varint(value)
    extra = min(extra, 10 - len(plain))
    if not extra:
        return plain
    return plain[:-1] + bytes([plain[-1] | 0x80]) + b"\x80" * (extra - 1) + b"\x00"


def unknown_field(number: int, kind: int, data: bytes) -> bytes:
    """A field of a later version: varint, 64 bits, bytes, a group with a field inside, 32 bits."""
    tag = varint(number << 3 | kind)
    match kind:
        case 0:
            return tag + varint(len(data))
        case 1:
            return tag + data[:8].ljust(8, b"\x00")
        case 2:
            return tag + varint(len(data)) + data
        case 3:
            return tag + b"\x08\x01" + varint(number << 3 | 4)
        case _:
            return tag + data[:4].ljust(4, b"\x00")


unknown_fields = st.builds(unknown_field, st.integers(100, 2000), st.sampled_from((0, 1, 2, 3, 5)), st.binary(max_size=20))


@st.composite
def encodings(draw: st.DrawFn) -> bytes:
    """Every way in which the wire format may say a numbered message frame: order, repeats, padding, fields of later versions."""
    pieces: list[bytes] = []
    for frame in draw(st.lists(frames, min_size=1, max_size=2)):
        body = b"".join(
            draw(
                st.permutations(
                    [
                        b"\x0a" + varint(frame.header.ByteSize()) + frame.header.SerializeToString(),
                        *(b"\x12" + varint(each.ByteSize()) + each.SerializeToString() for each in frame.envelopes),
                        *draw(st.lists(unknown_fields, max_size=2)),
                    ]
                )
            )
        )
        pieces.append(overlong(0x1A, draw(st.sampled_from((0, 0, 1, 9)))) + overlong(len(body), draw(st.integers(0, 9))) + body)
    pieces += [
        overlong(0x08, draw(st.sampled_from((0, 0, 1)))) + overlong(sequence, draw(st.integers(0, 9)))
        for sequence in draw(st.lists(st.integers(0, 2**64 - 1), max_size=2))
    ]
    pieces += draw(st.lists(unknown_fields, max_size=2))
    return b"".join(draw(st.permutations(pieces)))


@given(raw=encodings(), cut=st.one_of(st.none(), st.integers(0, 400)))
def test_both_ways_say_the_same_of_every_encoding_protobuf_allows(raw: bytes, cut: int | None) -> None:
    raw = raw[:cut]
    try:
        full: Frame | type[Exception] = in_full(raw)
    except (DecodeError, MalformedFrameError):
        full = MalformedFrameError
    if isinstance(full, type):
        with pytest.raises(full):
            DECODER.decode(raw)
    elif isinstance(full, Numbered):
        assert verdict(DECODER.decode(raw)) == verdict(full)
    else:
        assert DECODER.decode(raw) is None

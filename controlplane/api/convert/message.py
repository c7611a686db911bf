"""How do messages and their records travel?"""

from __future__ import annotations

from typing import Final

from claude_conductor import ids
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.hops import Hops
from claude_conductor.v1 import message_pb2 as pb
from claude_conductor.v1 import message_service_pb2 as service_pb
from controlplane.api.convert.values import timestamp_ms
from controlplane.domain.message import Header, Quality, Record, State, StoredFrame
from controlplane.domain.routing import CONDUCTOR, Shape, is_shared, local_name
from controlplane.service.letters import Fate

STATES: Final = {state: pb.MessageState.Value(f"MESSAGE_STATE_{state.name}") for state in State}
STATES_BACK: Final[dict[int, State]] = {number: state for state, number in STATES.items()}
_QUALITIES: Final[dict[int, Quality]] = {
    pb.QUALITY_UNSPECIFIED: Quality.DURABLE,
    pb.QUALITY_DURABLE: Quality.DURABLE,
    pb.QUALITY_EPHEMERAL: Quality.EPHEMERAL,
}


def quality_from_proto(number: int) -> Quality:
    """Return the quality of service; unspecified is durable.

    Raises:
        InvalidArgumentError: There is no such quality.
    """
    if number not in _QUALITIES:
        raise InvalidArgumentError("This is not a quality of service.", field="quality", value=number)
    return _QUALITIES[number]


def header_from_proto(header: pb.FrameHeader) -> Header:
    """Return the routing header.

    Raises:
        InvalidArgumentError: Its quality is none.
    """
    return Header(
        recipient=header.recipient,
        type=header.type,
        quality=quality_from_proto(header.quality),
        hop_count=header.hop_count,
        expire_time_ms=header.expire_time_ms,
        message_ids=header.message_ids,
        task_id=header.task_id,
    )


def shape_of(frame: pb.MessageFrame, size: int, small: int) -> Shape:
    """Return what is in a frame of `size` bytes; envelopes are measured one by one only if the frame is not small anyway."""
    envelopes = frame.envelopes
    return Shape(len(envelopes), size if size <= small else max((envelope.ByteSize() for envelope in envelopes), default=0))


def states_from_proto(states: list[int]) -> frozenset[State]:
    """Return the states a listing asks for.

    Raises:
        InvalidArgumentError: One of them is not a state a message can be in.
    """
    unknown = [number for number in states if number not in STATES_BACK]
    if unknown:
        raise InvalidArgumentError("This is not a state of a message.", field="states", value=unknown[0])
    return frozenset(STATES_BACK[number] for number in states)


def record_to_proto(record: Record, frame: bytes = b"") -> pb.MessageRecord:
    """Return the record; with its envelope if the frame it travelled in is given and still holds it."""
    message_id = ids.message_id(record.message_id)
    return pb.MessageRecord(
        message_id=message_id,
        sender=record.sender,
        recipient=local_name(record.mailbox),
        type=record.type,
        state=STATES[record.state],
        reason=record.reason,
        attempts=record.attempts,
        accept_time=timestamp_ms(record.accept_time_ms),
        state_time=timestamp_ms(record.state_time_ms),
        expire_time=timestamp_ms(record.expire_time_ms),
        envelope=_envelope_of(frame, record.message_id) if frame else None,
        position=record.position,
        hops=[pb.MessageHop(state=STATES[state], time=timestamp_ms(at)) for state, at in record.hops],
        last_error=record.last_error,
        redrives=record.redrives,
    )


def fate_to_proto(fate: Fate) -> service_pb.LetterOutcome:
    """Return what became of a dead letter."""
    error = fate.error
    return service_pb.LetterOutcome(
        message_id=ids.message_id(fate.message_id),
        recipient=fate.mailbox,
        reason=error.reason if error is not None else "",
        message=error.message if error is not None else "",
        next_step=error.next_step if error is not None else "",
        position=fate.position,
    )


def _envelope_of(frame: bytes, message_id: bytes) -> pb.Envelope | None:
    parsed = pb.MessageFrame.FromString(frame)
    packed = parsed.header.message_ids
    for index, envelope in enumerate(parsed.envelopes):
        if packed[16 * index : 16 * index + 16] == message_id:
            return envelope
    return None


def received(frame: StoredFrame, after_position: int, hops: Hops) -> list[service_pb.ReceivedMessage]:
    """Return the messages of a frame that are open and behind a position (or have none); note in `hops` that they are read."""
    parsed = pb.MessageFrame.FromString(frame.frame)
    addressed = parsed.header.recipient
    messages = [
        service_pb.ReceivedMessage(
            sender=frame.sender,
            position=position if frame.first_position else 0,
            attempt=frame.attempt_of(position),
            envelope=envelope,
            mailbox=local_name(frame.mailbox),
            addressed_to=addressed if is_shared(addressed) else "",
        )
        for position, envelope in enumerate(parsed.envelopes, frame.first_position)
        if not frame.first_position or (position > after_position and position not in frame.settled)
    ]
    for message in messages:
        hops.fetched(f"{frame.mailbox} {message.envelope.id}", parsed.header.hop_count)
    return messages


def answers_in(frame: StoredFrame, message_id: str, *, bounces: bool) -> list[int]:
    """Return the positions of messages that answer another one; the control plane's word that it came back only if `bounces`."""
    if frame.sender == CONDUCTOR and not bounces:
        return []
    envelopes = pb.MessageFrame.FromString(frame.frame).envelopes
    return [frame.first_position + index for index, each in enumerate(envelopes) if each.correlation_id == message_id]

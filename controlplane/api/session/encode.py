"""How do frames for a sidecar become bytes?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from claude_conductor.rpc.status import retry_after
from claude_conductor.v1 import message_pb2, session_service_pb2
from controlplane.api.convert import frames, question, result
from controlplane.api.convert.task import lease_to_proto, spec_to_agent
from controlplane.api.convert.values import duration
from controlplane.domain.message import StoredFrame
from controlplane.domain.question import Question
from controlplane.domain.routing import local_name, task_mailbox_name
from controlplane.domain.task import FailureKind, Lease, Task
from controlplane.service.sessions import Answer, Published, Refusal

_HEADER_TAG = b"\x0a"  # DeliveredFrame.header and Delivery.frames: field 1, length-delimited
_FRAME_TAG = b"\x12"  # DeliveredFrame.frame and ConnectResponse.delivery: field 2, length-delimited
_WORD_TAG = b"\x10"  # Delivery.committed_sequence: field 2, a varint
_LONGEST_MESSAGE = 1000
"""Characters; what somebody sent that was no name stands in it."""
_COMMITTED_TAG = b"\x1a"  # ConnectResponse.committed: field 3, length-delimited; its sequence is field 1, a varint

_SHORTEST = [bytes((value,)) for value in range(0x80)]


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it; most are lengths and short."""
    if value < 0x80:
        return _SHORTEST[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Entry(NamedTuple):
    """One of Delivery.frames, in two pieces: the sender's bytes are copied once, into what is written."""

    messages: int
    size: int
    """Bytes of both pieces."""
    head: bytes
    frame: bytes


def deliveries(frame: StoredFrame, after_position: int) -> list[Entry]:
    """Return an entry for each unbroken run of open messages with as many attempts.

    Nearly always that is the whole frame, whose bytes are then not touched.
    """
    if not (frame.settled or frame.attempts) and frame.first_position > after_position:
        return [_entry(frame, len(frame.message_ids) // 16, frame.first_position, frame.frame)]
    return _runs(frame, after_position)


def _runs(frame: StoredFrame, after_position: int) -> list[Entry]:
    out: list[Entry] = []
    for run in _open_runs(frame, after_position):
        indexes = [position - frame.first_position for position in run]
        out.append(_entry(frame, len(run), run[0], frames.keep(frame.frame, indexes)))
    return out


def _open_runs(frame: StoredFrame, after_position: int) -> Iterable[Sequence[int]]:
    run: list[int] = []
    for position in range(frame.first_position, frame.last_position + 1):
        shown = position not in frame.settled and position > after_position
        if run and not (shown and frame.attempt_of(position) == frame.attempt_of(run[0])):
            yield run
            run = []
        if shown:
            run.append(position)
    if run:
        yield run


def _entry(frame: StoredFrame, messages: int, first_position: int, body: bytes) -> Entry:
    header = message_pb2.DeliveryHeader(
        mailbox=local_name(frame.mailbox),
        sender=frame.sender,
        first_position=first_position,
        attempt=frame.attempt_of(first_position),
        accept_time_ms=frame.accept_time_ms,
        expire_time_ms=frame.expire_time_ms,
    ).SerializeToString()
    prefix = b"".join((_HEADER_TAG, varint(len(header)), header, _FRAME_TAG, varint(len(body))))
    head = b"".join((_HEADER_TAG, varint(len(prefix) + len(body)), prefix))
    return Entry(messages, len(head) + len(body), head, body)


def delivery(entries: Sequence[Entry], committed: int) -> bytes:
    """Return a ConnectResponse with these entries of Delivery.frames, and the word up to where frames were taken (0 for none)."""
    word = _WORD_TAG + varint(committed) if committed else b""
    pieces = [_FRAME_TAG, varint(sum([entry.size for entry in entries]) + len(word))]
    for entry in entries:
        pieces += entry.head, entry.frame
    pieces.append(word)
    return b"".join(pieces)


def assignment(task: Task, lease: Lease, traceparent: str) -> bytes:
    """Return a task for the sidecar."""
    return session_service_pb2.ConnectResponse(
        assignment=session_service_pb2.TaskAssignment(
            lease=lease_to_proto(lease),
            spec=spec_to_agent(task),
            tenant_id=task.tenant_id,
            traceparent=traceparent,
            mailbox=task_mailbox_name(task.id),
        )
    ).SerializeToString()


def cancellation(lease: Lease, grace: float, reason: str, kind: FailureKind) -> bytes:
    """Return the wish to end a task."""
    return session_service_pb2.ConnectResponse(
        cancellation=session_service_pb2.TaskCancellation(
            lease=lease_to_proto(lease), grace=duration(grace), reason=reason, kind=result.KINDS[kind]
        )
    ).SerializeToString()


def revocation(leases: Sequence[Lease]) -> bytes:
    """Return leases that are no longer valid."""
    revoked = session_service_pb2.LeasesRevoked(leases=[lease_to_proto(lease) for lease in leases])
    return session_service_pb2.ConnectResponse(leases_revoked=revoked).SerializeToString()


def question_closed(lease: Lease, closed: Question) -> bytes:
    """Return what became of a question."""
    return session_service_pb2.ConnectResponse(
        question_closed=session_service_pb2.QuestionClosed(
            lease=lease_to_proto(lease),
            question_id=closed.id,
            state=question.STATES[closed.state],
            answer=question.answer_to_proto(closed.answer),
        )
    ).SerializeToString()


def credential_hold(credential: str, reset: float, turn: float) -> bytes:
    """Return that a credential takes no requests for so many seconds."""
    hold = session_service_pb2.CredentialHold(credential_id=credential, reset=duration(reset), turn=duration(turn))
    return session_service_pb2.ConnectResponse(credential_hold=hold).SerializeToString()


def move(deadline: float) -> bytes:
    """Return that the stream will end."""
    return session_service_pb2.ConnectResponse(move=session_service_pb2.Move(deadline=duration(deadline))).SerializeToString()


def credit(messages: int, size: int) -> bytes:
    """Return how much more the control plane can take."""
    granted = session_service_pb2.Credit(messages=messages, bytes=size)
    return session_service_pb2.ConnectResponse(credit=granted).SerializeToString()


def committed(sequence: int, answers: Sequence[Answer]) -> bytes:
    """Return up to where the sidecar's journal was taken, what of it was refused, and what went to many or nobody."""
    if not answers:  # nearly always, and once for each message where nothing can be batched
        number = b"\x08" + varint(sequence)
        return b"".join((_COMMITTED_TAG, varint(len(number)), number))
    refused = [
        session_service_pb2.Refused(
            sequence=refusal.sequence,
            reason=refusal.error.reason,
            message=str(refusal.error)[:_LONGEST_MESSAGE],
            retry_delay=duration(pause) if (pause := retry_after(refusal.error)) is not None else None,
        )
        for refusal in answers
        if isinstance(refusal, Refusal)
    ]
    published = [
        session_service_pb2.Published(sequence=each.sequence, recipients=each.recipients)
        for each in answers
        if isinstance(each, Published)
    ]
    answer = session_service_pb2.Committed(sequence=sequence, refused=refused, published=published)
    return session_service_pb2.ConnectResponse(committed=answer).SerializeToString()

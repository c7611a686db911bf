"""What the outbox holds: one frame of the session each, numbered when it is journalled, with what it needs before it may go."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from agent_sidecar.run.task import Lease

_VARINT_STOP = 0x80


class Kind(enum.IntEnum):
    """What a frame is, for the rules about full journals."""

    MESSAGE = 1
    RECEIPT = 2
    STATUS = 3
    """Start and progress of a task."""
    OUTPUT = 4
    RESULT = 5
    PASSING = 6
    """An ephemeral message: of no use to anybody once the session it was meant for has ended."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame before it has a number."""

    kind: Kind
    body: bytes
    """A ConnectRequest without its sequence."""
    attachment: str = ""
    """File name of the artefact that has to be stored first."""
    lease: Lease | None = None
    """Of a result: the lease lives until the result is committed."""


@dataclass(slots=True)
class Entry:
    """A journalled frame."""

    sequence: int
    kind: Kind
    size: int
    attachment: str = ""
    lease: Lease | None = None
    held: bool = False
    """Its attachment is not stored yet."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the control plane did not take a frame."""

    reason: str
    message: str
    retry_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Published:
    """The control plane took a frame, and not for one mailbox."""

    recipients: int


Answer = Refusal | Published | None
"""What became of a frame; None: it was taken, nothing else to say."""


def numbered(sequence: int, body: bytes) -> bytes:
    """Return the frame as it goes on the wire: field 1, the sequence, before the rest (protobuf encoding: tag 0x08, varint)."""
    number = bytearray(b"\x08")
    while sequence >= _VARINT_STOP:
        number.append(sequence & 0x7F | _VARINT_STOP)
        sequence >>= 7
    number.append(sequence)
    return bytes(number) + body


def content_size(size: int) -> int:
    """Return the bytes of a field without its tag of one byte and its length, given its size with both (protobuf encoding).

    Credit is counted in these, on both sides of the stream.
    """
    for digits in range(1, 5):
        if size - 1 - digits < 1 << 7 * digits:
            return size - 1 - digits
    return size


def number_size(value: int) -> int:
    """Return the bytes of a number in a field whose tag has one byte; 0 is not written at all (protobuf encoding)."""
    return 1 + (value.bit_length() + 6) // 7 if value else 0


def lease_text(lease: Lease | None) -> str:
    """Return a lease as it is journalled."""
    return json.dumps([lease.task_id, lease.attempt, lease.epoch]) if lease is not None else ""


def lease_of(text: str) -> Lease | None:
    """Return the lease that was journalled."""
    if not text:
        return None
    task_id, attempt, epoch = json.loads(text)
    return Lease(task_id, attempt, epoch)

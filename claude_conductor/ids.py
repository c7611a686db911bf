"""Typed ids: minted as prefix + UUIDv7, so that ids of one kind sort by the time they were made (RFC 9562, section 5.7)."""

from __future__ import annotations

import re
from typing import NewType, Protocol

from claude_conductor.errors import InvalidArgumentError

TenantId = NewType("TenantId", str)
AgentId = NewType("AgentId", str)
TaskId = NewType("TaskId", str)
MessageId = NewType("MessageId", str)
ArtefactId = NewType("ArtefactId", str)
ScheduleId = NewType("ScheduleId", str)
Incarnation = NewType("Incarnation", str)
"""One life of one sidecar process; a new one proves that the old process, and with it its agent, is gone."""

DEFAULT_TENANT = TenantId("default")

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")


class Mint(Protocol):
    """Makes new ids."""

    def __call__(self, prefix: str, /) -> str:
        """Return `prefix` + a new UUIDv7 in hexadecimal."""


def uuid7(unix_ms: int, random: int) -> bytes:
    """Lay out a UUIDv7.

    Args:
        unix_ms: Milliseconds since the epoch, 48 bits are used.
        random: At least 74 random bits.

    Returns:
        The 16 bytes in network order.
    """
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62 & 0xFFF) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return value.to_bytes(16, "big")


def message_id(raw: bytes) -> MessageId:
    """Return the readable form of the 16 bytes that travel in a frame."""
    return MessageId("msg_" + raw.hex())


def message_bytes(message: str) -> bytes:
    """Return the 16 bytes of a readable message id.

    Raises:
        InvalidArgumentError: It is not `msg_` and 32 hexadecimal digits.
    """
    try:
        raw = bytes.fromhex(message.removeprefix("msg_"))
    except ValueError as cause:
        raise InvalidArgumentError("This is not a message id.", message_id=message) from cause
    if not message.startswith("msg_") or len(raw) != 16:
        raise InvalidArgumentError("This is not a message id.", message_id=message)
    return raw


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can name a tenant or an agent: a lower-case DNS label with dots and underscores, 1-63 characters.

    Raises:
        InvalidArgumentError: It cannot; the message says what is allowed.
    """
    if not _NAME.match(name):
        raise InvalidArgumentError(
            f"A {kind} is named by 1 to 63 characters of a-z, 0-9, '.', '_' and '-', the first and last a letter or digit.",
            name=name,
        )
    return name

"""How are messages cut from the body of a request? gRPC over HTTP/2, "Length-Prefixed-Message" (grpc/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import struct
from typing import Final

from controlplane.transport.refusal import CallRefusedError, Code

_PREFIX: Final = struct.Struct(">BI")
PREFIX_BYTES: Final = _PREFIX.size


class MessageReader:
    """Cuts one body. It keeps one message that is not whole yet, never more."""

    __slots__ = ("_largest", "_rest", "missing")

    def __init__(self, largest: int) -> None:
        """Begin before the first message.

        Args:
            largest: Bytes of one message.
        """
        self._largest = largest
        self._rest = bytearray()
        self.missing = 0
        """Bytes without which the message that has begun is not whole; 0 between two, and until the length is known."""

    @property
    def between(self) -> bool:
        """Whether a body may end here."""
        return not self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are whole now, in order.

        Raises:
            CallRefusedError: A message that is too large or compressed.
        """
        if self._rest:
            self._rest += data
            if len(data) < self.missing:
                self.missing -= len(data)
                return []
            data = bytes(self._rest)
            self._rest.clear()
        self.missing = 0
        messages: list[bytes] = []
        start, end = 0, len(data)
        while end - start >= PREFIX_BYTES:
            compressed, size = _PREFIX.unpack_from(data, start)
            self._check(compressed, size)
            after = start + PREFIX_BYTES + size
            if after > end:
                self.missing = after - end
                break
            messages.append(data[start + PREFIX_BYTES : after])
            start = after
        if start < end:
            self._rest += data[start:]
        return messages

    def _check(self, compressed: int, size: int) -> None:
        if compressed:  # a request that names a compression is refused before its body is looked at
            raise CallRefusedError(Code.INTERNAL, "A compressed message, but no compression was named.")
        if size > self._largest:
            raise CallRefusedError(Code.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {self._largest})")

"""Which headers does an answer begin and end with? gRPC over HTTP/2, "Responses" (grpc/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import grpc

from controlplane.transport.http2.header_block import encode
from controlplane.transport.metadata import to_fields

_BEGIN: Final = ((":status", "200"), ("content-type", "application/grpc"))
_PLAIN_BEGINNING: Final = encode(_BEGIN)
_PLAIN_END: Final = encode([("grpc-status", "0")])


def beginning(metadata: Iterable[tuple[str, str | bytes]] = ()) -> bytes:
    """Return the block before the first message.

    Raises:
        ValueError: Metadata that no header can carry.
    """
    fields = to_fields(metadata)
    return encode([*_BEGIN, *fields]) if fields else _PLAIN_BEGINNING


def end(
    code: grpc.StatusCode, details: str = "", metadata: Iterable[tuple[str, str | bytes]] = (), *, alone: bool = False
) -> bytes:
    """Return the block after the last message.

    Args:
        code: How the call ended.
        details: In words.
        metadata: What goes along.
        alone: Whether the answer consists of nothing else.

    Raises:
        ValueError: Metadata that no header can carry.
    """
    fields = to_fields(metadata)
    if code is grpc.StatusCode.OK and not (alone or details or fields):
        return _PLAIN_END
    number: int = code.value[0]
    status = [("grpc-status", str(number))]
    if details:
        status.append(("grpc-message", _percent_encoded(details)))
    if code is grpc.StatusCode.UNIMPLEMENTED:
        status.append(("grpc-accept-encoding", "identity"))
    return encode([*(_BEGIN if alone else ()), *status, *fields])


def http_status(status: int) -> bytes:
    """Return the answer to what is no call of gRPC."""
    return encode([(":status", str(status))])


def _percent_encoded(text: str) -> str:
    raw = text.encode("utf-8", "replace")
    return "".join([chr(byte) if " " <= chr(byte) <= "~" and byte != ord("%") else f"%{byte:02X}" for byte in raw])

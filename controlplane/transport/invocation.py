"""What does a request call, with what, and until when? gRPC over HTTP/2, "Requests" (grpc/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from controlplane.transport.http2.request_head import RequestHead
from controlplane.transport.metadata import Metadata, from_fields
from controlplane.transport.refusal import CallRefusedError, Code, NotGrpcError

_CONTENT_TYPE: Final = re.compile(rb"application/grpc(\+[a-z]+)?(;.*)?", re.IGNORECASE)
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_METHOD_NOT_ALLOWED: Final = 405
_UNSUPPORTED_MEDIA_TYPE: Final = 415


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call as interceptors see it: what grpc calls HandlerCallDetails."""

    method: str
    """`/package.Service/Method`."""
    invocation_metadata: Metadata
    timeout: float | None
    """Seconds; None without a deadline."""


def invocation(head: RequestHead, largest_metadata: int) -> Invocation:
    """Return what a request calls.

    Args:
        head: A well-formed request.
        largest_metadata: Bytes of headers that are taken.

    Raises:
        NotGrpcError: It is something else.
        CallRefusedError: It is a call of gRPC, but not one that can be served.
    """
    if head.method != b"POST":
        raise NotGrpcError(_METHOD_NOT_ALLOWED)
    named = dict(head.fields)
    if not _CONTENT_TYPE.fullmatch(named.get(b"content-type", b"")):
        raise NotGrpcError(_UNSUPPORTED_MEDIA_TYPE)
    if head.size > largest_metadata:
        raise CallRefusedError(Code.RESOURCE_EXHAUSTED, f"Received metadata of {head.size} bytes, {largest_metadata} are taken.")
    encoding = named.get(b"grpc-encoding", b"identity")
    if encoding != b"identity":
        raise CallRefusedError(Code.UNIMPLEMENTED, "Compression is not supported.")
    return Invocation(head.path.decode("latin-1"), from_fields(head.fields), _seconds(named.get(b"grpc-timeout")))


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise CallRefusedError(Code.INTERNAL, "A timeout is up to eight digits and a unit.")
    return int(found[1]) * _UNITS[found[2]]

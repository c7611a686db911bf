"""Is this a well-formed request, and what does it ask for? RFC 9113, sections 8.2 and 8.3."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.transport.http2.codes import ErrorCode, PeerStreamError
from controlplane.transport.http2.header_block import Headers

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a token of RFC 9110, in lower case
_FORBIDDEN_IN_VALUE: Final = re.compile(rb"[\0\r\n]|^[ \t]|[ \t]$")
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_CONNECTIONS: Final = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_OVERHEAD: Final = 32
"""Bytes that count for every header besides its own (RFC 9113, section 6.5.2)."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request begins with. Values as they came: whoever needs one says in which encoding."""

    method: bytes
    path: bytes
    fields: Sequence[tuple[bytes, bytes]]
    """Without pseudo-headers, in order."""
    size: int
    """Bytes of all headers as SETTINGS_MAX_HEADER_LIST_SIZE counts them."""
    content_length: int | None


def request_head(stream_id: int, headers: Headers) -> RequestHead:
    """Return the head of a request.

    Raises:
        PeerStreamError: It is malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.startswith(b":"):
            if fields or name not in _PSEUDO or name in pseudo:
                raise _malformed(stream_id, "a pseudo-header that is unknown, repeated or in the wrong place")
            pseudo[name] = value
        else:
            fields.append((name, value))
    _check_fields(stream_id, fields)
    if not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        raise _malformed(stream_id, "a request without method, scheme or path")
    size = sum([len(name) + len(value) + _OVERHEAD for name, value in headers])
    return RequestHead(pseudo[b":method"], pseudo[b":path"], fields, size, _content_length(stream_id, fields))


def check_trailers(stream_id: int, headers: Headers) -> None:
    """Look at the headers after a request's body; nobody reads them.

    Raises:
        PeerStreamError: They are malformed.
    """
    if any(name.startswith(b":") for name, _ in headers):
        raise _malformed(stream_id, "a pseudo-header after the body")
    _check_fields(stream_id, headers)


def _check_fields(stream_id: int, fields: Headers) -> None:
    for name, value in fields:
        if not _NAME.fullmatch(name) or _FORBIDDEN_IN_VALUE.search(value):
            raise _malformed(stream_id, "a header that is not allowed in HTTP")
        if name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            raise _malformed(stream_id, "a header of HTTP/1.1 connections")


def _content_length(stream_id: int, fields: Headers) -> int | None:
    values = {value for name, value in fields if name == b"content-length"}
    if not values:
        return None
    text = values.pop()
    if values or not text.isdigit() or len(text) > len(str(1 << 63)):
        raise _malformed(stream_id, "a content length that is no number")
    return int(text)


def _malformed(stream_id: int, message: str) -> PeerStreamError:
    return PeerStreamError(stream_id, ErrorCode.PROTOCOL_ERROR, message)

"""How is metadata written in headers? gRPC over HTTP/2, "Custom-Metadata" (grpc/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Final

from controlplane.transport.refusal import CallRefusedError, Code

Metadata = tuple[tuple[str, str | bytes], ...]

_BINARY: Final = "-bin"
_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_TEXT: Final = re.compile(r"[ -~]*")
_OF_THE_PROTOCOL: Final = frozenset({"te", "content-type", "content-length"})


def from_fields(fields: Sequence[tuple[bytes, bytes]]) -> Metadata:
    """Return what a caller sent along, in order, without the headers of the protocol itself.

    Raises:
        CallRefusedError: Something binary is not base64.
    """
    out: list[tuple[str, str | bytes]] = []
    for raw, value in fields:
        name = raw.decode("ascii")
        if name in _OF_THE_PROTOCOL or (name.startswith("grpc-") and not name.endswith(_BINARY)):
            continue
        if name.endswith(_BINARY):
            out += [(name, _decoded(piece)) for piece in value.split(b",")]  # proxies may join what has the same name
        else:
            out.append((name, value.decode("latin-1")))
    return tuple(out)


def to_fields(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[str, str]]:
    """Return headers for what goes along with an answer.

    Raises:
        ValueError: A name or a text that no header can carry.
    """
    out: list[tuple[str, str]] = []
    for name, value in metadata:
        if not _KEY.fullmatch(name):
            raise ValueError(f"metadata cannot have this name: {name!r}")
        if name.endswith(_BINARY):
            raw = value.encode() if isinstance(value, str) else value
            out.append((name, base64.b64encode(raw).decode().rstrip("=")))
            continue
        text = value.decode("ascii") if isinstance(value, bytes) else value
        if not _TEXT.fullmatch(text):
            raise ValueError(f"metadata of this name is printable ASCII: {name!r}")
        out.append((name, text))
    return out


def _decoded(value: bytes) -> bytes:
    text = value.strip().rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as cause:
        raise CallRefusedError(Code.INTERNAL, "Binary metadata is base64.") from cause

"""Which headers of a plain request and its answer go through the proxy?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"upgrade",
        b"proxy-authorization",
        b"proxy-authenticate",
    )
)
"""RFC 9110, 7.6.1, without Transfer-Encoding, which h11 needs and writes itself."""
_ONE_EXCHANGE: Final = (b"connection", b"close")


def upward(headers: Iterable[tuple[bytes, bytes]], authority: str) -> Headers:
    """Return what the host is sent: it is told the name that was decided on, whatever Host the agent wrote."""
    kept = [(name, value) for name, value in _end_to_end(headers) if name != b"host"]
    return [(b"host", authority.encode("ascii")), *kept, _ONE_EXCHANGE]


def downward(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return what the agent is sent."""
    return [*_end_to_end(headers), _ONE_EXCHANGE]


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    found = [(name.lower(), value) for name, value in headers]
    named = {each.strip().lower() for name, value in found if name == b"connection" for each in value.split(b",")}
    return [(name, value) for name, value in found if name not in _HOP_BY_HOP and name not in named]

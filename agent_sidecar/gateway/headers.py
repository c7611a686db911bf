"""Which headers pass the gateway, in each direction."""

from __future__ import annotations

from collections.abc import Iterable

from agent_sidecar.gateway.provider import Provider

Header = tuple[bytes, bytes]
"""Name in lower case, and value."""

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authenticate",
    )
)
"""They concern one connection only (RFC 9110 section 7.6.1)."""

_NEVER_UP = frozenset(
    (b"host", b"x-api-key", b"authorization", b"proxy-authorization", b"cookie", b"expect", b"accept-encoding", b"forwarded")
)
_NEVER_DOWN = frozenset((b"set-cookie",))


def upward(headers: Iterable[Header], provider: Provider) -> list[Header]:
    """Return the headers for the provider: the agent's own credentials dropped, the real key added.

    Compression is switched off, because usage is read from the answer as it passes.

    Args:
        headers: As the agent sent them.
        provider: Where they go; it has a key.
    """
    listed = list(headers)
    dropped = HOP_BY_HOP | _NEVER_UP | _named_by_connection(listed)
    passed = [(name, value) for name, value in listed if name not in dropped and not name.startswith(b"x-forwarded-")]
    chunked = any(name == b"transfer-encoding" for name, _ in listed)
    return [
        (b"host", provider.authority.encode("ascii")),
        *passed,
        *([(b"transfer-encoding", b"chunked")] if chunked else []),
        (b"accept-encoding", b"identity"),
        (b"connection", b"close"),
        *([(b"x-api-key", provider.key.reveal().encode("ascii"))] if provider.key else []),
    ]


def downward(headers: Iterable[Header]) -> list[Header]:
    """Return the headers for the agent: those that concern the gateway's own connection dropped."""
    listed = list(headers)
    dropped = HOP_BY_HOP | _NEVER_DOWN | _named_by_connection(listed)
    return [(name, value) for name, value in listed if name not in dropped]


def _named_by_connection(headers: list[Header]) -> frozenset[bytes]:
    """Return what the Connection header itself calls hop-by-hop; the length stays, or the body would lose its frame."""
    values = b",".join(value for name, value in headers if name == b"connection")
    return frozenset(token.strip().lower() for token in values.split(b",")) - {b"", b"content-length"}

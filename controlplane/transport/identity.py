"""Who is at the other end of a connection with TLS? What grpcio calls the authentication context, from Python's `ssl`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

Identity = Mapping[str, tuple[bytes, ...]]
NOBODY: Final[Identity] = {}
"""A connection without TLS."""
ALTERNATIVE_NAMES: Final = "x509_subject_alternative_name"
"""Names of the peer's certificate: URIs (of SPIFFE among them), host names, addresses. They identify it; its subject does not."""
_SPEAKS: Final = "h2"
"""HTTP/2 over TLS, as ALPN calls it (RFC 9113, section 3.2); gRPC's clients insist on it too."""


def identity(connection: ssl.SSLObject) -> Identity:
    """Return what is known of the peer once the handshake is done; of its certificate only if the context verified one."""
    known: dict[str, tuple[bytes, ...]] = {"transport_security_type": (b"ssl",)}
    certificate: Mapping[str, Any] = connection.getpeercert() or {}
    raw = connection.getpeercert(binary_form=True)
    if not certificate or raw is None:
        return known
    known["x509_pem_cert"] = (ssl.DER_cert_to_PEM_cert(raw).encode(),)
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    if common := tuple([str(value).encode() for key, value in subject if key == "commonName"]):
        known["x509_common_name"] = common
    known[ALTERNATIVE_NAMES] = tuple([str(name).encode() for _, name in certificate.get("subjectAltName", ())])
    return known


def speaks_http2(connection: ssl.SSLObject) -> bool:
    """Tell whether both ends have agreed on HTTP/2."""
    return connection.selected_alpn_protocol() == _SPEAKS


def check(context: ssl.SSLContext) -> None:
    """Make a context fit for gRPC: it offers HTTP/2, and nothing below TLS 1.2 (RFC 9113, section 9.2).

    Raises:
        ValueError: It takes an older TLS.
    """
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ValueError("HTTP/2 needs TLS 1.2 at least; set `minimum_version` of the context.")
    context.set_alpn_protocols([_SPEAKS])

"""How do the certificates in use reach each handshake?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:  # it brings OpenSSL
    from controlplane.service.certificates import Served


def server_credentials(served: Callable[[], Served], *, mutual: bool) -> grpc.ServerCredentials:
    """Return credentials that follow what is served; connections that stand are not touched by a change.

    gRPC asks once a handshake, from its own threads; without an answer it goes on with what it has, sessions to resume included.

    Args:
        served: Returns what is in use now; may be called from any thread.
        mutual: Whether callers need a certificate of ours, too.
    """
    shown = served()

    def configuration(of: Served) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(of.key, of.chain)], root_certificates=of.trust if mutual else None)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        now = served()
        if now.version == shown.version:
            return None
        shown = now
        return configuration(now)

    # The stubs do not know that None means "nothing changed" (gRFC L6).
    return grpc.dynamic_ssl_server_credentials(configuration(shown), changed, require_client_authentication=mutual)  # type: ignore[arg-type]

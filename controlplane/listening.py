"""Where is the control plane listened to, by which transport, and how does each listener find out who calls?"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import grpc

from claude_conductor.clock import Clock
from claude_conductor.errors import AddressInUseError, HomeUnusableError, SettingsError
from claude_conductor.telemetry.traces import Tracer
from controlplane.api.credentials import server_credentials
from controlplane.api.guard.audited import Audited
from controlplane.api.guard.caller import Tokens
from controlplane.api.guard.interceptors import by_token, interceptors
from controlplane.api.guard.live import LiveCalls, agent_key
from controlplane.api.guard.peer import PeerIdentity
from controlplane.api.server import Listener, Servicers
from controlplane.service.audit import Audit
from controlplane.service.identities import Identities
from controlplane.service.meter import Meter
from controlplane.settings import Settings

if TYPE_CHECKING:
    from controlplane.service.certificates import Certificates

_PROBE_SECONDS: Final = 300.0


def open_certificates(settings: Settings, clock: Clock) -> Certificates | None:
    """Return the authority, if anything listens on a network.

    Raises:
        ConductorError: It cannot be read or written.
    """
    if not settings.listen.secured:
        return None
    # OpenSSL's bindings take 80 ms and 16 MB, which only a control plane on a network has to pay.
    from controlplane.identity.vault import Vault  # noqa: PLC0415
    from controlplane.service.certificates import Certificates  # noqa: PLC0415

    hosts, life = (*settings.listen.hosts, socket.gethostname()), settings.listen.certificate_seconds
    return Certificates(Vault(settings.home / "authority"), hosts, clock, life)


class Guards:
    """What calls pass, by how it is found out who makes them."""

    def __init__(
        self, settings: Settings, identities: Identities, audit: Audit, clock: Clock, watching: tuple[Tracer, Meter | None]
    ) -> None:
        self._around = (*watching, Audited(audit))
        self._identities = identities
        self._live = LiveCalls()
        identities.on_revoked = lambda token: self._live.end(token.id)
        identities.on_banned = lambda tenant_id, agent_id: self._live.end(agent_key(tenant_id, agent_id))
        known = Tokens(settings.operator_token_sha256, settings.sidecar_tokens, identities)
        self._by_token = by_token(known, self._live, clock.now)

    def by_token(self) -> Sequence[grpc.aio.ServerInterceptor]:
        """Callers have tokens."""
        return interceptors(*self._around, *self._by_token)

    def by_certificate(self) -> Sequence[grpc.aio.ServerInterceptor]:
        """Callers have certificates, and tokens that are bound to them."""
        return interceptors(*self._around, PeerIdentity(self._identities, self._live))


def listeners(
    settings: Settings, address: str, servicers: Servicers, guards: Guards, certificates: Certificates | None
) -> dict[str, Listener]:
    """Return what will listen, by address; the Unix socket's is `address`.

    Raises:
        SettingsError: There is no such gRPC server.
    """
    listen, payload = settings.listen, settings.limits.payload_bytes
    native = _native(settings.grpc_server)  # what listens on a network is grpcio's
    found = {address: Listener(servicers, guards.by_token(), payload, reflection=settings.reflection, native=native)}
    if certificates is not None:
        lasting = certificates.life
        if listen.sidecars:
            mutual = server_credentials(lambda: certificates.served, mutual=True)
            found[listen.sidecars] = Listener(servicers, guards.by_certificate(), payload, credentials=mutual, lasting=lasting)
        if listen.clients:
            alone = server_credentials(lambda: certificates.served, mutual=False)
            found[listen.clients] = Listener(servicers, guards.by_token(), payload, credentials=alone, lasting=lasting)
    if listen.probe:
        found[listen.probe] = Listener(None, (), lasting=_PROBE_SECONDS)
    return found


def _native(grpc_server: str) -> bool:
    if grpc_server not in {"grpcio", "native"}:
        raise SettingsError("A gRPC server is `grpcio` or `native`.", key="grpc_server", value=grpc_server)
    return grpc_server == "native"


async def start(settings: Settings, found: dict[str, Listener], address: str) -> list[Listener]:
    """Listen everywhere; nobody is told yet that anything is ready.

    Raises:
        HomeUnusableError: The Unix socket cannot be listened to.
        AddressInUseError: An address on a network cannot.
    """
    for where, listener in found.items():
        try:
            await listener.start(where)
            if where == address:
                settings.socket_path.chmod(0o600)
        except (RuntimeError, OSError) as cause:
            if where == address:
                raise HomeUnusableError("The socket cannot be listened to.", path=settings.socket_path) from cause
            advice = "stop who does, or change `listen` in the settings"
            raise AddressInUseError("This address cannot be listened to.", next_step=advice, address=where) from cause
    return list(found.values())

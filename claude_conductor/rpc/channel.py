"""Client channels: where to, with which options, as whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from claude_conductor.identity.names import SERVER_NAME

UNIX_SOCKET_LIMIT: Final = 107
"""Longest path of a Unix socket in bytes (unix(7): sun_path has 108 with its end)."""

Metadata = tuple[tuple[str, str], ...]

_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                # Reads only: a repeat of anything else needs an idempotency key, which only the caller has.
                "name": [
                    {"service": f"claude_conductor.v1.{service}", "method": method}
                    for service, methods in {
                        "TaskService": ("GetTask", "ListTasks", "CheckTask", "ListTaskTypes"),
                        "AgentService": ("GetAgent", "ListAgents"),
                        "MessageService": ("GetMessage", "ListMessages", "ListSubscriptions"),
                        "ScheduleService": ("GetSchedule", "ListSchedules"),
                        "AdminService": ("GetStatus",),
                        "CertificateService": ("GetAuthority",),
                        "CredentialService": ("ListTokens",),
                        "AuditService": ("ListAuditRecords",),
                    }.items()
                    for method in methods
                ],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


NEVER_MS: Final = (1 << 31) - 1
"""gRPC's word for no pings."""
WITHOUT_PINGS: Final = (("grpc.keepalive_time_ms", NEVER_MS),)
"""For the agent's own socket: an agent whose sandbox holds its processor back for a second would lose its calls to a ping."""


def options(max_message_bytes: int = 4 << 20) -> list[tuple[str, int | str]]:
    """Return the options of every client channel.

    `ping_timeout_ms` is what notices a frozen peer; `keepalive_timeout_ms` does nothing in grpcio 1.85 (docs/design/security.md).
    """
    return [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.ping_timeout_ms", 1000),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]


@dataclass(frozen=True, slots=True)
class Tls:
    """How the two ends of a connection over a network know each other. All of it PEM."""

    trust: bytes = b""
    """Roots of Conductor's own authority; empty: those of the system, for a control plane behind a proxy with a public name."""
    chain: bytes = b""
    """The caller's certificate; empty: a token says who calls."""
    key: bytes = field(default=b"", repr=False)


def is_local(target: str) -> bool:
    """Tell whether this is a Unix socket's address."""
    return target.startswith("unix:")


def open_channel(target: str, extra: Sequence[tuple[str, int | str]] = (), tls: Tls | None = None) -> grpc.aio.Channel:
    """Open a channel. Connecting happens with the first call; close it when done.

    Args:
        target: `unix:/path`, which file permissions guard, or `HOST:PORT`, which is never spoken to without TLS.
        extra: Options besides the usual ones.
        tls: For `HOST:PORT`; None: the system's roots.
    """
    said = [*options(), *extra]
    if is_local(target):
        return grpc.aio.insecure_channel(target, options=said)
    tls = tls or Tls()
    credentials = grpc.ssl_channel_credentials(tls.trust or None, tls.key or None, tls.chain or None)
    if tls.trust:
        said.append(("grpc.ssl_target_name_override", SERVER_NAME))
    return grpc.aio.secure_channel(target, credentials, options=said)


def bearer(token: str, traceparent: str = "") -> Metadata:
    """Return the metadata that says who calls and which trace it continues."""
    identity: Metadata = (("authorization", f"Bearer {token}"),) if token else ()
    return (*identity, ("traceparent", traceparent)) if traceparent else identity

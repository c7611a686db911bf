"""Server options and Unix sockets to listen on: made safely, or refused with advice."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final

from claude_conductor.errors import AddressInUseError, HomeUnusableError, SocketPathTooLongError
from claude_conductor.rpc.channel import UNIX_SOCKET_LIMIT

_PINGS: Final = [
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 1000),
]


def options(max_message_bytes: int = 4 << 20, *, pings: bool = True, network: float = 0.0) -> list[tuple[str, int]]:
    """Return the options of every server; docs/design/security.md has the attack each value answers.

    Args:
        max_message_bytes: The largest message either way.
        pings: Whether to end connections whose peer stands still for about 2 s. An agent may: whoever computes in a runtime with
            one thread answers no ping meanwhile, and the kernel tells when the process behind a Unix socket is gone.
        network: Seconds a connection over a network may last, which is how long a certificate is valid; 0: a Unix socket's.
    """
    return [
        *(_PINGS if pings else []),
        *(_aging(network) if network else []),
        ("grpc.max_concurrent_streams", 100),
        ("grpc.server_handshake_timeout_ms", 5000),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
        ("grpc.so_reuseport", 0),
    ]


def _aging(seconds: float) -> list[tuple[str, int]]:
    return [
        ("grpc.max_connection_age_ms", int(seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", 60_000),
        ("grpc.max_connection_idle_ms", 300_000),
    ]


def check_socket_path(path: Path) -> str:
    """Return the gRPC address of a Unix socket.

    Raises:
        SocketPathTooLongError: The kernel takes 107 bytes at most.
    """
    if len(str(path).encode()) > UNIX_SOCKET_LIMIT:
        raise SocketPathTooLongError(path=path, bytes=len(str(path).encode()), limit=UNIX_SOCKET_LIMIT)
    return f"unix:{path}"


def claim_socket(path: Path) -> str:
    """Make the path free to listen on, and return its gRPC address.

    A socket nobody listens on is a left-over and removed; one that answers is somebody else's.

    Raises:
        SocketPathTooLongError: The kernel takes 107 bytes at most.
        AddressInUseError: Another process listens on it, or the path is not a socket.
        HomeUnusableError: The folder cannot be made or written.
    """
    address = check_socket_path(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_socket():
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
                probe.settimeout(1)
                if probe.connect_ex(str(path)) == 0:
                    raise AddressInUseError(address=path)
            path.unlink()
        elif path.exists():
            raise AddressInUseError("Something that is not a socket is in the way.", address=path)
    except OSError as cause:
        raise HomeUnusableError(path=path.parent, cause=cause.strerror) from cause
    return address

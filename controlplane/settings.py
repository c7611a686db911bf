"""Everything the control plane can be told, resolved: it reads no file and no environment below `app`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controlplane.domain.caps import Caps
from controlplane.domain.policy import Policy

_EVERYWHERE = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 - compared with, not listened to
GRPC_SERVER: Final = "native"
"""What serves gRPC unless the settings say otherwise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds. Sizes in bytes."""

    payload_bytes: int = 1 << 20
    """Largest payload of one message; larger things are artefacts."""
    mailbox_messages: int = 10_000
    mailbox_bytes: int = 64 << 20
    hops: int = 16
    """How often a message may be forwarded before it counts as a loop."""
    messages_a_second: float = 5000.0
    """Of one sender, in the long run."""
    messages_at_once: int = 10_000
    """Of one sender that was silent; what its sidecar may send ahead of the answers."""
    message_attempts: int = 5
    subscriptions: int = 100
    """Topics one mailbox may be subscribed to."""
    subscribers: int = 1000
    """Mailboxes that may be subscribed to one topic."""
    message_seconds: float = 86_400.0
    """Time to live of a message that sets none."""
    kept_messages: int = 100_000
    """Messages in a final state that are kept, per tenant."""
    kept_seconds: float = 86_400.0
    """How long they are kept."""
    kept_bytes: int = 1 << 30
    """Of their frames, per tenant; those that were all acknowledged keep none."""
    prompt_bytes: int = 256 << 10
    output_bytes: int = 64 << 20
    """Output kept of one attempt."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Bounds of one session. Sizes in bytes."""

    queue_bytes: int = 1 << 20
    """Deliveries that wait for the sidecar; past it they stay in the store."""
    ahead_messages: int = 10_000
    ahead_bytes: int = 4 << 20
    """What it may send before it has the answers."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Addresses on a network, `HOST:PORT`; empty: not served."""

    sidecars: str = ""
    """Mutual TLS."""
    clients: str = ""
    """TLS of the server, and tokens."""
    probe: str = ""
    """Plain, and gRPC health only."""
    names: tuple[str, ...] = ()
    """What the certificate shall be good for besides these hosts."""
    certificate_seconds: float = 3600.0
    """How long a leaf is valid."""

    @property
    def secured(self) -> bool:
        """Whether anything needs a certificate."""
        return bool(self.sidecars or self.clients)

    @property
    def sidecars_told(self) -> str:
        """What a sidecar that joins is told: without the host where every address of this machine is listened to."""
        host, _, port = self.sidecars.rpartition(":")
        return f":{port}" if host in _EVERYWHERE else self.sidecars

    @property
    def hosts(self) -> tuple[str, ...]:
        """Everything the certificate is good for."""
        listened = [address.rpartition(":")[0].strip("[]") for address in (self.sidecars, self.clients) if address]
        return tuple(host for host in dict.fromkeys((*listened, *self.names, "localhost")) if host not in _EVERYWHERE)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `app` builds the control plane from. Times in seconds."""

    home: Path
    """State goes to `home/state` and `home/blobs`; the socket is `home/run/control.sock`; the user's types of tasks are in
    `home/types`."""
    store: str = "sqlite"
    """`sqlite`, `memory`, or the URL of a Redis server, which never holds a password."""
    grpc_server: str = GRPC_SERVER
    """What serves gRPC: `native`, the server of `controlplane.transport`, or `grpcio`."""
    operator_token_sha256: str = ""
    """Hexadecimal; empty refuses every operator."""
    sidecar_tokens: Mapping[str, str] = field(default_factory=dict)
    """Agent id -> SHA-256 of its sidecar's token, hexadecimal."""
    lease_seconds: float = 15.0
    heartbeat_seconds: float = 5.0
    """A third of the lease, so that two may be missed."""
    default_driver: str = "command"
    task_timeout: float = 3600.0
    """For tasks that set none."""
    max_attempts: int = 3
    retry_delay: float = 1.0
    caps: Caps = Caps()
    """How many tasks may be with agents at once."""
    starts_after_limit: int = 1
    """Tasks that start in the first second after a provider's rate limit; twice as many in each further second."""
    keep_tasks_days: float = 30.0
    """How long finished tasks, their output and their artefacts are kept."""
    limits: Limits = Limits()
    streams: Streams = Streams()
    policy: Policy = Policy()
    """Who may write to whom."""
    listen: Listen = Listen()
    reflection: bool = True
    """Served on the Unix socket only; elsewhere it has to be asked for."""
    metrics_port: int = 0
    """Port on 127.0.0.1 that Prometheus reads; 0: none, and nothing is counted."""
    log_level: str = "info"
    log_style: str = "json"

    @property
    def store_shown(self) -> str:
        """The store in few words: without the options of its URL."""
        return self.store.partition("?")[0]

    @property
    def socket_path(self) -> Path:
        """Where it listens."""
        return self.home / "run" / "control.sock"

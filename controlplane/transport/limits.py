"""What does a server take, and for how long does it wait? The channel arguments of grpcio that it understands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MILLISECONDS: Final = 1000
_NEVER_MS: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    largest_received: int = 4 << 20
    """Of one message."""
    largest_sent: int = 4 << 20
    concurrent_streams: int = 100
    """Of one connection."""
    metadata: int = 8 << 10
    """Of one call; RESOURCE_EXHAUSTED past it."""
    idle: float = math.inf
    """After hearing nothing for this long, a ping is sent."""
    answer: float = 20.0
    """A ping that nothing follows for this long ends the connection."""
    stuck: float = 30.0
    """A peer that for this long reads nothing and says nothing, while so much waits for it that a ping would not get through, is
    given up."""
    handshake: float = 120.0
    """How long a peer has to show that it speaks HTTP/2."""

    @classmethod
    def of(cls, options: Sequence[tuple[str, int]]) -> Limits:
        """Read them from what `grpc.aio.server(options=...)` takes; what is not about these things is grpcio's own."""
        given = dict(options)
        before = cls()
        ping_ms = given.get("grpc.keepalive_time_ms", _NEVER_MS)
        return cls(
            largest_received=given.get("grpc.max_receive_message_length", before.largest_received),
            largest_sent=given.get("grpc.max_send_message_length", before.largest_sent),
            concurrent_streams=given.get("grpc.max_concurrent_streams", before.concurrent_streams),
            metadata=given.get("grpc.max_metadata_size", before.metadata),
            idle=math.inf if ping_ms >= _NEVER_MS else ping_ms / _MILLISECONDS,
            answer=given.get("grpc.http2.ping_timeout_ms", before.answer * _MILLISECONDS) / _MILLISECONDS,
            handshake=given.get("grpc.server_handshake_timeout_ms", before.handshake * _MILLISECONDS) / _MILLISECONDS,
        )

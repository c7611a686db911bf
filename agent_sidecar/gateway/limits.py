"""How much one agent may ask of its gateway at a time, and how long each step may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Bounds of one gateway. Sizes in bytes, times in seconds."""

    body_bytes: int = 32 << 20
    """The provider's own limit for one request."""
    exchanges: int = 16
    """Requests under way at once; subagents make several."""
    connections: int = 64
    connect_seconds: float = 15.0
    """Name, TCP and TLS together."""
    request_seconds: float = 60.0
    """Longest pause while the agent sends its request."""
    first_byte_seconds: float = 600.0
    """A long answer that is not streamed comes all at once."""
    pause_seconds: float = 300.0
    """Longest pause inside an answer; the provider sends a ping every few seconds."""
    reading_seconds: float = 60.0
    """How long the agent may refuse to read."""
    hold_seconds: float = 540.0
    """How long a request waits here for the provider's rate limit: agents' clients give up after 600 s. A longer one is told."""
    unknown_reset_seconds: float = 5.0
    """For how long a provider is left alone that says "too many requests" and not until when."""
    kept_bytes: int = 4 << 20
    """Of a request's body, so that it can be asked again; with a longer one the agent is told of the limit."""
    exchange_seconds: float = 3600.0
    idle_seconds: float = 600.0
    """Between two requests on one connection."""
    linger_seconds: float = 2.0
    """How long the rest of a refused request is read, so that the agent sees the refusal and no reset."""

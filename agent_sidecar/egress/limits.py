"""How much one agent may ask of its proxy at a time, and how long each step may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EgressLimits:
    """Bounds of one proxy. Times in seconds."""

    connections: int = 64
    """Package managers open some dozens at once."""
    request_seconds: float = 30.0
    """Longest pause while the agent sends a request."""
    connect_seconds: float = 10.0
    """Name and TCP together; each address gets its share."""
    answer_seconds: float = 300.0
    """Longest pause of an answer that is not in a tunnel."""
    idle_seconds: float = 300.0
    """A tunnel in which nothing moves for so long is closed."""
    linger_seconds: float = 2.0
    """For the last bytes before the connection is closed."""

"""How a gateway is opened without its libraries being loaded where no agent needs one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent_sidecar.gateway.hold import Hold
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import Provider
from agent_sidecar.gateway.purse import Purse
from agent_sidecar.gateway.usage import Usage
from agent_sidecar.untrusted.doorway import Owner
from claude_conductor.clock import Clock


class OpenGateway(Protocol):
    """A gateway that serves."""

    async def close(self, grace: float = 2.0) -> None:
        """End every exchange and remove the socket. Idempotent."""


def _nothing(*_: float) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Door:
    """Everything a gateway needs to be opened."""

    path: Path
    """Of its socket, at most 107 bytes."""
    provider: Provider
    on_usage: Callable[[Usage], None]
    """Told of the tokens of each answer."""
    on_rate_limit: Callable[[float], None]
    """Seconds until the provider takes requests again, as it said here."""
    clock: Clock
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    owner: Owner | None = None
    """None: this process's user."""
    hold: Hold | None = None
    """What all gateways of the sidecar know of the provider's rate limit; None: this one knows it by itself."""
    on_hold: Callable[[float], None] = _nothing
    """Seconds for which a request has to wait, whoever was told so by the provider."""
    on_taken: Callable[[], None] = _nothing
    """The provider answered otherwise than by a rate limit."""
    purse: Purse | None = None
    """Asked before each call; None: nothing is limited."""


async def open_gateway(door: Door) -> OpenGateway:
    """Open a gateway; it serves when this returns.

    Raises:
        SocketPathTooLongError: The path does not fit the kernel's address.
        AddressInUseError: The socket cannot be made there.
    """
    # Loaded here: h11 and what uses it cost a sidecar without a model agent some MiB and 15 ms.
    from agent_sidecar.gateway.exchange import Observers  # noqa: PLC0415
    from agent_sidecar.gateway.gateway import gateway  # noqa: PLC0415

    observers = Observers(door.on_usage, door.on_rate_limit, door.on_hold, door.on_taken)
    hold = door.hold or Hold(door.clock, door.limits.exchanges)
    opened = gateway(door.provider, observers, door.limits, door.clock, hold, door.purse)
    await opened.open(door.path, door.owner)
    return opened

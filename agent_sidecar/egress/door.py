"""How an agent's proxy is opened without its libraries being loaded where no agent may reach anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from agent_sidecar.egress.limits import EgressLimits
from agent_sidecar.untrusted.doorway import Owner

SOCKET: Final = "egress.sock"
"""Its name beside the agent's own socket."""
PORT: Final = 3128
"""Loopback port inside the sandbox that leads to it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one connection."""

    host: str
    """In its only form; what is none is shown as ASCII."""
    port: int
    rule: str = ""
    """What allowed it, as it would be written; empty: refused."""
    reason: str = ""
    """Why it was refused, or why an allowed one could not be made."""


class OpenProxy(Protocol):
    """A proxy that serves."""

    async def close(self, grace: float = 2.0) -> None:
        """End every connection and remove the socket. Idempotent."""


@dataclass(frozen=True, slots=True)
class EgressDoor:
    """Everything a proxy needs to be opened."""

    path: Path
    """Of its socket, at most 107 bytes."""
    allow: Sequence[str]
    """Entries as `claude_conductor.egress` reads them."""
    on_decision: Callable[[Decision], None]
    """Told of each connection; called between two awaits, so it returns at once and does not raise."""
    limits: EgressLimits = field(default_factory=EgressLimits)
    owner: Owner | None = None
    """None: this process's user."""


async def open_proxy(door: EgressDoor) -> OpenProxy:
    """Open a proxy; it serves when this returns.

    Raises:
        InvalidArgumentError: An entry of the list is none.
        SocketPathTooLongError: The path does not fit the kernel's address.
        AddressInUseError: The socket cannot be made there.
    """
    # Loaded here: h11 and what uses it cost a sidecar whose agents reach nothing some MiB and 15 ms.
    from agent_sidecar.egress.proxy import proxy  # noqa: PLC0415
    from claude_conductor.egress import rules  # noqa: PLC0415

    opened = proxy(rules(door.allow), door.on_decision, door.limits)
    await opened.open(door.path, door.owner)
    return opened

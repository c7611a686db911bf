"""How a host that is allowed is reached: its name is looked up here, and only addresses it may have are connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from claude_conductor.egress import Rule, reachable

_TRIED: Final = 3
"""Addresses of a host."""
_FORBIDDEN, _BAD_GATEWAY, _TIMEOUT = 403, 502, 504

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LookUp = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Unreached:
    """Why there is no connection."""

    status: int
    """Of HTTP."""
    why: str


async def look_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, in the order the system would use them.

    Raises:
        OSError: It has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Dialer:
    """Connects to hosts that were allowed.

    Args:
        seconds: For a host's name and a connection together.
        look_up: Returns a host's addresses.
    """

    def __init__(self, seconds: float, look_up: LookUp = look_up) -> None:
        self._seconds = seconds
        self._look_up = look_up

    async def connect(self, host: str, port: int, rule: Rule) -> Connection | Unreached:
        """Return a connection, or why there is none.

        The address that is connected to is the one that was looked at: a name is not looked up twice.

        Args:
            host: In its only form.
            port: Its port.
            rule: What allows it.
        """
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._look_up(host, port)
                usable = [each for each in found if reachable(each, internal=rule.internal)]
                if not usable:
                    where = (
                        f"{host} leads to {', '.join(found[:_TRIED])}: this machine, a private network or a link-local address"
                    )
                    return Unreached(_FORBIDDEN, f"{where}; where that is meant, it is allowed as `internal:{host}:{port}`")
                return await self._first(usable[:_TRIED], port)
        except TimeoutError:
            return Unreached(_TIMEOUT, f"{host}:{port} could not be reached within {self._seconds:g} s")
        except OSError as cause:
            return Unreached(_BAD_GATEWAY, f"{host}:{port} cannot be reached: {cause.strerror or cause}")

    async def _first(self, addresses: Sequence[str], port: int) -> Connection:
        """Return the first connection that can be made; raise the last one's error if there is none."""
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(self._seconds / len(addresses)):
                    return await asyncio.open_connection(address, port)
            except OSError:  # TimeoutError is one
                continue
        return await asyncio.open_connection(addresses[-1], port)

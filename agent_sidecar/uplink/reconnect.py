"""How a sidecar stays connected: one session after another, for ever, with a jittered pause between them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from agent_sidecar.uplink.session import SessionEndedError
from claude_conductor.errors import ConductorError
from claude_conductor.rpc.status import from_call

_log = logging.getLogger(__name__)
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


def pause(failures: int, random: Callable[[], float]) -> float:
    """Return the pause before the next attempt, in seconds: between 50 ms and a bound that doubles up to 1 s.

    Args:
        failures: Attempts that failed in a row, from 1.
        random: Returns a number from 0 up to 1.
    """
    bound: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 10))
    return FIRST_PAUSE + random() * (bound - FIRST_PAUSE)


class Reconnect:
    """Runs sessions.

    Args:
        connect: Runs one session at an address (empty: the configured one) until it ends; calls its argument once it stands.
        random: Returns a number from 0 up to 1.
    """

    def __init__(self, connect: Callable[[str, Callable[[], None]], Awaitable[None]], random: Callable[[], float]) -> None:
        self._connect = connect
        self._random = random
        self._failures = 0
        self._said = ""
        self._leaving = False
        self.standing = asyncio.Event()
        """Set while a session stands."""

    async def serve(self) -> None:
        """Stay connected until cancelled; after `leave`, until the session has ended."""
        address = ""
        while True:
            self._failures += 1
            try:
                await self._connect(address, self._stands)
            except SessionEndedError as end:
                address = end.address
                if end.at_once and not self._leaving:
                    self._failures = 0
                    continue
                self._say("SESSION_ENDED", address or "the control plane ended the session")
            except grpc.aio.AioRpcError as cause:
                address = ""
                error = from_call(cause)
                self._say(error.reason, str(error))
            except ConductorError as error:
                address = ""
                self._say(error.reason, str(error))
            finally:
                self.standing.clear()
            if self._leaving:
                return
            await asyncio.sleep(pause(self._failures, self._random))

    def leave(self) -> None:
        """Begin no further session."""
        self._leaving = True

    def _stands(self) -> None:
        self._failures = 0
        self._said = ""
        self.standing.set()
        _log.info("connected to the control plane")

    def _say(self, reason: str, cause: str) -> None:
        """Log a reason once, not at every attempt."""
        if reason != self._said:
            self._said = reason
            _log.warning("not connected to the control plane", extra={"reason": reason, "cause": cause})

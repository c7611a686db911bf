"""Which control plane uses what is stored here? One at a time, by a lease of the server's clock."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from pathlib import Path
from typing import Final

from claude_conductor.errors import HomeUnusableError, SettingsError, StoreUnavailableError
from controlplane.backends.redis.server import Server

_log = logging.getLogger(__name__)
LEASE_MS: Final = 15_000
RENEW_SECONDS: Final = 4.0


class Ownership:
    """A lease on everything below the prefix.

    The next life of the same home takes it over at once, others when it has run out.
    """

    def __init__(self, server: Server, home: str) -> None:
        """Begin without it.

        Args:
            server: Where it is.
            home: What is the same in every life of one control plane, and in no other's.
        """
        self._server = server
        self._home = home
        self._life = secrets.token_hex(8)
        self._taken = False
        self._words = f"pid {os.getpid()} on {socket.gethostname()}"

    async def take(self) -> None:
        """Take the lease.

        Raises:
            SettingsError: Another control plane has it.
            StoreUnavailableError: Redis cannot be asked.
        """
        other = await self._own("take")
        self._taken = other is None
        if other is not None:
            raise SettingsError(
                "Another control plane uses this store.",
                next_step="stop it, or give one of them a prefix of its own (?prefix=NAME); "
                f"if it is gone, wait {LEASE_MS // 1000} s",
                owner=other[0].decode(),
                address=self._server.address,
            )

    async def keep(self) -> None:
        """Renew the lease for ever; return when another has it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                other = await self._own("keep")
            except StoreUnavailableError as error:
                _log.warning("the lease on the store is not renewed", extra={"cause": str(error)})
                continue
            if other is not None:
                _log.error("another control plane has taken the store over", extra={"owner": other[0].decode()})
                return

    async def leave(self) -> None:
        """Give the lease back, if it is ours."""
        if not self._taken:
            return
        try:
            await self._own("leave")
        except StoreUnavailableError as error:
            _log.warning("the lease on the store runs out by itself", extra={"cause": str(error)})

    async def _own(self, action: str) -> tuple[bytes, int] | None:
        answer = await self._server.change("own", "g", action, self._home, self._life, self._words, LEASE_MS)
        return None if answer is None else (answer[0], int(answer[1]))


def identity(home: Path) -> str:
    """Return what tells this home from every other, made when it is asked for the first time.

    Raises:
        HomeUnusableError: It cannot be read or written.
    """
    path = home / "state" / "store.id"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(secrets.token_hex(16), encoding="ascii")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise HomeUnusableError(path=path, cause=cause) from cause

"""What does a Redis server say of itself?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from redis.exceptions import NoPermissionError

from claude_conductor.errors import SettingsError, StoreUnavailableError
from controlplane.backends.redis.failure import lasting
from controlplane.backends.redis.fitness import Finding, judge
from controlplane.backends.redis.server import Server

_log = logging.getLogger(__name__)


async def examine(server: Server) -> Sequence[Finding]:
    """Ask a server for what tells whether it is fit.

    Raises:
        SettingsError: It refuses us, and will until something is changed in the settings or in it.
        StoreUnavailableError: It cannot be reached, or is not ready yet.
    """
    try:
        info = _lines(await server.ask("INFO"))
        return judge(info, await _config(server), server.address)
    except StoreUnavailableError as error:
        if lasting(error.__cause__):
            raise SettingsError(str(error), next_step=error.next_step) from error
        raise


async def _config(server: Server) -> Mapping[str, str]:
    try:
        told = await server.ask("CONFIG", "GET", "appendfsync")
    except StoreUnavailableError as error:
        if isinstance(error.__cause__, NoPermissionError):
            return {}
        raise
    return {name.decode(): value.decode() for name, value in zip(told[::2], told[1::2], strict=True)}


def _lines(info: bytes) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in info.decode().splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in pairs}

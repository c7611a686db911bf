"""One Redis server: a connection for what changes, one for what is only read, and how keys are named."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from controlplane.backends.redis.address import Address
from controlplane.backends.redis.pipe import Argument, Pipe
from controlplane.backends.redis.scripts import load

ANSWER_SECONDS: Final = 5.0
"""How long one answer may take before the connection counts as broken. Redis itself may wait 2 s for a slow disk."""
CONNECT_SECONDS: Final = 3.0
_CLASSES: Final[dict[str, type[AbstractConnection]]] = {
    "redis": Connection,
    "rediss": SSLConnection,
    "unix": UnixDomainSocketConnection,
}


class Server:
    """Everything that talks to Redis does so through this. All methods may be called concurrently."""

    def __init__(self, address: Address) -> None:
        """Connect when the first call comes."""
        self.address = address
        scripts = load()
        self._writing = Pipe(self._connection, scripts, address)
        self._reading = Pipe(self._connection, scripts, address)
        self._tenants: dict[str, int] = {}

    def key(self, tag: str, name: str = "") -> str:
        """Return a key; those with one tag are in one slot of a Cluster."""
        return f"{self.address.prefix}:{{{tag}}}:{name}"

    async def change(self, script: str, tag: str, *arguments: Argument) -> Any:  # noqa: ANN401 - an answer of Redis
        """Run a script that changes keys of this tag; its changes are made together and in the order of the calls.

        Raises:
            StoreUnavailableError: It did not run, or (after a lost connection) nobody knows.
        """
        return await self._writing.run(script, self.key(tag), *arguments)

    async def look(self, script: str, tag: str, *arguments: Argument) -> Any:  # noqa: ANN401 - an answer of Redis
        """Run a script that changes nothing; it sees one state, with every change that was answered before.

        Raises:
            StoreUnavailableError: Redis cannot be asked.
        """
        return await self._reading.run(script, self.key(tag), *arguments)

    async def write(self, *command: Argument) -> Any:  # noqa: ANN401 - an answer of Redis
        """Send a command that changes something."""
        return await self._writing.call(*command)

    async def ask(self, *command: Argument) -> Any:  # noqa: ANN401 - an answer of Redis
        """Send a command that changes nothing."""
        return await self._reading.call(*command)

    async def know(self, tenant: str) -> None:
        """Note that there is something of this tenant."""
        breaks = self._writing.breaks  # a server that was started again may have forgotten it
        if self._tenants.get(tenant) != breaks:
            await self.write("SADD", self.key("g", "tenants"), tenant)
            self._tenants[tenant] = breaks

    async def tenants(self) -> list[str]:
        """Return every tenant there is something of, sorted."""
        return sorted(name.decode() for name in await self.ask("SMEMBERS", self.key("g", "tenants")))

    @property
    def closed(self) -> bool:
        """Whether it was let go of."""
        return self._writing.closed

    async def close(self) -> None:
        """Finish what was begun."""
        await self._writing.close()
        await self._reading.close()

    def _connection(self) -> AbstractConnection:
        return _CLASSES[self.address.scheme](
            **self.address.arguments,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="conductor",
            protocol=2,
        )

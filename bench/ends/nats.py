"""A client of NATS, one connection an agent: core NATS for ephemeral messages, JetStream for durable ones.

As its documentation recommends: `publish` collects what is written together (its flusher), JetStream is published to without
waiting for each confirmation (`publish_async`), and a push consumer acknowledges everything up to the last message at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, StorageType
from nats.js.client import JetStreamContext
from nats.js.errors import BadRequestError

from bench.ends import parts

STREAM = "bench"
UNACKNOWLEDGED = 10_000


class Connection:
    """One agent's connection."""

    def __init__(self, client: Client, stream: JetStreamContext | None, other: str) -> None:
        self._client = client
        self._stream = stream
        self._other = f"{STREAM}.{other}"
        self._arrived: list[Msg] = []
        self._news = asyncio.Event()

    async def subscribe(self, me: str) -> None:
        """Receive what is sent to this agent."""
        subject = f"{STREAM}.{me}"
        if self._stream is None:
            await self._client.subscribe(subject, cb=self._take)
            await self._client.flush()
        else:
            config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=UNACKNOWLEDGED)
            await self._stream.subscribe(subject, durable=me, cb=self._take, manual_ack=True, config=config)

    async def _take(self, message: Msg) -> None:
        self._arrived.append(message)
        self._news.set()

    async def send(self, payload: bytes) -> None:
        """See Line."""
        if self._stream is None:
            await self._client.publish(self._other, payload)
        else:
            await self._stream.publish_async(self._other, payload, wait_stall=parts.LONGEST)

    async def flood(self, payload: bytes, count: int) -> None:
        """See Line."""
        for _ in range(count):
            await self.send(payload)
        if self._stream is None:
            await self._client.flush()
        else:
            await self._stream.publish_async_completed()

    async def receive(self) -> Sequence[bytes]:
        """See Line."""
        await self._news.wait()
        self._news.clear()
        arrived, self._arrived = self._arrived, []
        if self._stream is not None and arrived:
            await arrived[-1].ack()
        return [message.data for message in arrived]

    async def ask(self, payload: bytes) -> None:
        """See Line."""
        await self.send(payload)
        await self.receive()


async def open_connection(part: parts.Part, number: int, stack: AsyncExitStack) -> Connection:
    """Connect one pair's end."""
    me, other = (f"s{number}", f"r{number}") if part.sends else (f"r{number}", f"s{number}")
    client = await nats.connect(part.address, allow_reconnect=False)
    stack.push_async_callback(client.close)
    stream = client.jetstream() if part.quality == "durable" else None
    if stream is not None and not part.sends:
        with contextlib.suppress(BadRequestError):  # another pair made it first
            await stream.add_stream(name=STREAM, subjects=[f"{STREAM}.>"], storage=StorageType.FILE)
    connection = Connection(client, stream, other)
    if not part.sends or part.name == "ping":
        await connection.subscribe(me)
    return connection


if __name__ == "__main__":
    parts.main(open_connection)

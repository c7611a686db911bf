"""One connection on which commands leave in batches, in the order of their calls.

Whatever is called while a batch is under way goes into the next one, so nothing waits for a timer, and under load hundreds of
calls cost one round trip. Callers wait for a future and never touch the connection: whoever is cancelled leaves no answer behind
that another would take for its own (CVE-2023-28858). Nothing is repeated by itself: a connection that broke may have lost the
question or the answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError

from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.redis.failure import unavailable
from controlplane.backends.redis.scripts import Script

Argument = str | bytes | int | float
WAITING: Final = 1 << 16
"""How many calls may wait; more are refused."""
BATCH_CALLS: Final = 512
BATCH_BYTES: Final = 4 << 20
"""What a batch holds at most, so that it is answered well within the time-out of the connection."""


@dataclass(frozen=True, slots=True)
class _Call:
    command: tuple[Argument, ...]
    size: int
    done: asyncio.Future[Any]


class Pipe:
    """A connection that is opened when it is needed, and again after it broke."""

    def __init__(self, connect: Callable[[], AbstractConnection], scripts: Mapping[str, Script], address: object) -> None:
        """Begin without a connection.

        Args:
            connect: Makes one; it is not connected yet.
            scripts: What is loaded into the server before the first call on each connection.
            address: For errors.
        """
        self._connect = connect
        self._scripts = scripts
        self._address = address
        self._connection: AbstractConnection | None = None
        self._waiting: deque[_Call] = deque()
        self._running: asyncio.Task[None] | None = None
        self.closed = False
        self.breaks = 0
        """How often a connection broke."""

    async def run(self, script: str, key: str, *arguments: Argument) -> Any:  # noqa: ANN401 - an answer of Redis
        """Run a script on the slot of `key`; return its answer. Cancelling the call does not undo it.

        Raises:
            StoreUnavailableError: It did not run, or (after a lost connection) nobody knows.
        """
        return await self.call("EVALSHA", self._scripts[script].sha, 1, key, *arguments)

    async def call(self, *command: Argument) -> Any:  # noqa: ANN401 - an answer of Redis
        """Return the answer to a command; otherwise as `run`."""
        if self.closed:
            raise StoreUnavailableError("The store is closed.", next_step="start the control plane again")
        if len(self._waiting) >= WAITING:
            raise StoreUnavailableError("Too many calls wait for Redis.", next_step="send less at a time")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        size = sum(len(part) for part in command if isinstance(part, str | bytes))
        self._waiting.append(_Call(command, size, done))
        if self._running is None:
            self._running = asyncio.create_task(self._work(), name="redis")
        return await done

    async def close(self) -> None:
        """Refuse further calls, finish those that were begun, and let go of the connection."""
        self.closed = True
        if self._running is not None:
            await asyncio.wait([self._running])
        await self._drop()

    async def _work(self) -> None:
        batch: list[_Call] = []
        try:
            while self._waiting:
                batch = self._next()
                await self._serve(batch)
        finally:
            self._running = None
            for call in (*batch, *self._waiting):  # left over only if this task was cancelled: the loop ends
                call.done.cancel()
            self._waiting.clear()

    def _next(self) -> list[_Call]:
        batch = [self._waiting.popleft()]
        size = batch[0].size
        while self._waiting and len(batch) < BATCH_CALLS and size + self._waiting[0].size <= BATCH_BYTES:
            size += self._waiting[0].size
            batch.append(self._waiting.popleft())
        return batch

    async def _serve(self, batch: Sequence[_Call]) -> None:
        sent = False
        try:
            connection = await self._connected()
            sent = True
            answers = await self._exchange(connection, [call.command for call in batch])
        except (RedisError, OSError) as cause:
            self.breaks += 1
            await self._drop()
            answers = [cause] * len(batch)
        for call, answer in zip(batch, answers, strict=True):
            if call.done.done():
                continue  # its caller was cancelled
            if isinstance(answer, Exception):
                error = unavailable(answer, self._address, sent=sent)
                error.__cause__ = answer
                call.done.set_exception(error)
            else:
                call.done.set_result(answer)

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = self._connect()
            await self._connection.connect()  # type: ignore[no-untyped-call]  # the library's
            await self._load(self._connection)
        return self._connection

    async def _exchange(self, connection: AbstractConnection, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        answers = await _ask(connection, commands)
        unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # the server forgot them (SCRIPT FLUSH, a failover): none of these ran
            await self._load(connection)
            again = await _ask(connection, [commands[index] for index in unknown])
            for index, answer in zip(unknown, again, strict=True):
                answers[index] = answer
        return answers

    async def _load(self, connection: AbstractConnection) -> None:
        for answer in await _ask(connection, [("SCRIPT", "LOAD", script.text) for script in self._scripts.values()]):
            if isinstance(answer, Exception):
                raise answer

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _ask(connection: AbstractConnection, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    return [await _answer(connection) for _ in commands]


async def _answer(connection: AbstractConnection) -> Any:  # noqa: ANN401 - an answer of Redis
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal

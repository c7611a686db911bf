"""How many callers share one fsync: a single writing thread with group commit.

Whatever arrived while the last commit ran goes into the next transaction, so nothing waits for a timer, and under load
hundreds of changes cost one fsync. A caller is answered after COMMIT returned, which with `synchronous=FULL` is after the
write-ahead log was synced (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from claude_conductor.errors import StoreUnavailableError

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]
"""A change to the database, run inside a transaction in the writing thread. It may run twice: the first was rolled back then."""

WAITING = 1 << 16
"""How many changes may wait; more are refused."""


@dataclass(frozen=True, slots=True)
class _Write:
    change: Change[Any]
    done: asyncio.Future[Any]


class Writer:
    """Runs changes in the order of their calls, many to a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []
        self._alone: deque[_Write] = deque()
        self._running = False
        self._closed = False

    async def write(self, change: Change[T]) -> T:
        """Return what the change returned, once it is durable. Cancelling the call does not undo the change.

        Raises:
            StoreUnavailableError: Closed, or too many changes wait.
            sqlite3.Error: The database refused; nothing of this change was stored.
        """
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("The store is closed.", next_step="start the control plane again")
            if len(self._waiting) >= WAITING:
                raise StoreUnavailableError("Too many writes wait for the disk.", next_step="send less at a time")
        return await self._enqueue(change)

    async def close(self) -> None:
        """Refuse further changes, finish those that were begun, and close the connection."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        await self._enqueue(lambda _: None)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def _enqueue(self, change: Change[T]) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        write = _Write(change, done)
        with self._lock:
            self._waiting.append(write)
            idle = not self._running
            self._running = True
        if idle:
            self._begin()
        return await done

    def _begin(self) -> None:
        batch: list[_Write] = []
        self._thread.submit(self._commit, batch).add_done_callback(partial(self._committed, batch))

    def _commit(self, batch: list[_Write]) -> list[Any]:
        with self._lock:
            if self._alone:
                batch.append(self._alone.popleft())
            else:
                batch += self._waiting
                self._waiting = []
        with transaction(self._connection):
            return [write.change(self._connection) for write in batch]

    def _committed(self, batch: list[_Write], outcome: Future[list[Any]]) -> None:
        error = outcome.exception()
        if error is not None and len(batch) > 1:
            self._alone.extend(batch)  # so that one bad change does not fail its neighbours
        else:
            loop = batch[0].done.get_loop()
            results = [] if error else outcome.result()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_answer, batch, results, error)
        with self._lock:
            self._running = bool(self._alone or self._waiting)
            again = self._running
        if again:
            self._begin()


def _answer(batch: list[_Write], results: list[Any], error: BaseException | None) -> None:
    for index, write in enumerate(batch):
        if write.done.done():
            continue  # its caller was cancelled
        if error is None:
            write.done.set_result(results[index])
        else:
            write.done.set_exception(error)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction; whatever goes wrong, COMMIT included, rolls all of it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

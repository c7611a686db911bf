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
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.sqlite.threads import Threads

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]
"""A change to the database, run inside a transaction in the writing thread. It may run twice: the first was rolled back then."""

WAITING = 1 << 16
"""How many changes may wait; more are refused."""


@dataclass(frozen=True, slots=True)
class _Write:
    change: Change[Any]
    done: asyncio.Future[Any]
    committed: Callable[[Any], None] | None = None


class Writer:
    """Runs changes in the order of their calls, many to a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = Threads(1, "sqlite-writer")
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []
        self._alone: deque[_Write] = deque()
        self._running = False
        self._closed = False

    async def write(self, change: Change[T], committed: Callable[[T], None] | None = None) -> T:
        """Return what the change returned, once it is durable. Cancelling the call does not undo the change.

        Args:
            change: What to do.
            committed: Called in the writing thread with what the change returned, after the commit and before anybody is
                answered, in the order of the changes, whatever becomes of this call.

        Raises:
            StoreUnavailableError: Closed, or too many changes wait.
            sqlite3.Error: The database refused; nothing of this change was stored.
        """
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("The store is closed.", next_step="start the control plane again")
            if len(self._waiting) >= WAITING:
                raise StoreUnavailableError("Too many writes wait for the disk.", next_step="send less at a time")
        return await self._enqueue(change, committed)

    async def close(self) -> None:
        """Refuse further changes, finish those that were begun, and close the connection."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        await self._enqueue(lambda _: None)
        await self._thread.call(self._connection.close)
        self._thread.close()

    async def _enqueue(self, change: Change[T], committed: Callable[[T], None] | None = None) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        write = _Write(change, done, committed)
        with self._lock:
            self._waiting.append(write)
            idle = not self._running
            self._running = True
        if idle:
            self._thread.start(self._commit_all)
        return await done

    def _commit_all(self) -> None:
        """Commit what waits until nothing does."""
        running = True
        while running:
            batch: list[_Write] = []
            results: list[Any] = []
            error: BaseException | None = None
            try:
                results = self._commit(batch)
            except BaseException as raised:  # noqa: BLE001 - it is raised where it is waited for
                error = raised
            running = self._committed(batch, results, error)

    def _commit(self, batch: list[_Write]) -> list[Any]:
        with self._lock:
            if self._alone:
                batch.append(self._alone.popleft())
            else:
                batch += self._waiting
                self._waiting = []
        with transaction(self._connection):
            results = [write.change(self._connection) for write in batch]
        for write, result in zip(batch, results, strict=True):
            if write.committed is not None:
                write.committed(result)
        return results

    def _committed(self, batch: list[_Write], results: list[Any], error: BaseException | None) -> bool:
        """Answer those who wait; return whether there is more to do."""
        if error is not None and len(batch) > 1:
            self._alone.extend(batch)  # so that one bad change does not fail its neighbours
        else:
            loop = batch[0].done.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_answer, batch, results, error)
        with self._lock:
            self._running = bool(self._alone or self._waiting)
            return self._running


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

"""What survives a kill of the sidecar: frames not yet committed, deliveries not yet acknowledged, and how far each was read.

One SQLite file in WAL mode. A writer thread takes every change that has come in since its last commit and commits them together,
with one fsync (synchronous=FULL), in the order they were submitted. A tail torn by a crash is cut by SQLite at the last whole
commit; a file that is no journal any more is moved aside and said so. Freed pages are used again, and a file grown large is
compacted at the next start. The exclusive lock makes a second sidecar of the same agent fail instead of harming this one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from claude_conductor.errors import AlreadyRunningError, HomeUnusableError, StoreUnavailableError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Change = Callable[[sqlite3.Connection], _T]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS uplink (
    sequence INTEGER PRIMARY KEY, kind INTEGER NOT NULL, body BLOB NOT NULL, attachment TEXT NOT NULL, lease TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS inbound (
    mailbox TEXT NOT NULL, position INTEGER NOT NULL, attempt INTEGER NOT NULL, seen INTEGER NOT NULL, sender TEXT NOT NULL,
    envelope BLOB NOT NULL, PRIMARY KEY (mailbox, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (mailbox TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_LATER: Final = (("inbound", "addressed TEXT NOT NULL DEFAULT ''"), ("inbound", "expire_ms INTEGER NOT NULL DEFAULT 0"))
"""Columns that came later."""
_MOST_AT_ONCE: Final = 1024
_MOST_WAITING: Final = 65_536
_COMPACT_BYTES: Final = 8 << 20
_CLOSE_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Submitted:
    """A change on its way."""

    change: Change[Any]
    future: asyncio.Future[Any]
    then: Callable[[Any], None] | None
    result: Any = None


class Journal:
    """The file and its writer thread. `open` first, then `submit` from the event loop it was opened in.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.Queue[_Submitted | None] = queue.Queue(_MOST_WAITING)
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> sqlite3.Connection:
        """Open the file, repairing or replacing it if need be; return a connection to read it with before anything is submitted.

        Raises:
            AlreadyRunningError: Another sidecar of this agent has it.
            HomeUnusableError: It cannot be made.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._connection = _connect(self._path)
            except sqlite3.DatabaseError as cause:
                if "locked" in str(cause):
                    raise AlreadyRunningError("Another sidecar of this agent runs already.", journal=self._path) from cause
                _log.error("journal is damaged and was moved aside", extra={"path": str(self._path), "cause": str(cause)})
                for suffix in ("-wal", "-shm"):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)
                self._path.replace(f"{self._path}.damaged")
                self._connection = _connect(self._path)
        except (OSError, sqlite3.Error) as cause:
            raise HomeUnusableError(path=self._path, cause=cause) from cause
        return self._connection

    def start(self) -> None:
        """Start the writer. Call it in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def submit(self, change: Change[_T], then: Callable[[_T], None] | None = None) -> asyncio.Future[_T]:
        """Have a change committed; never blocks.

        Args:
            change: Runs in the writer thread, within a transaction that it may share with others.
            then: Runs in the event loop once it is durable, before anybody who awaits the future; in the order of submission.

        Returns:
            What `change` returned, once it is durable. Fails with StoreUnavailableError if the disk did not take it.
        """
        if self._loop is None:
            raise StoreUnavailableError("The journal is not open.")
        future: asyncio.Future[_T] = self._loop.create_future()
        try:
            self._queue.put_nowait(_Submitted(change, future, then))
        except queue.Full:
            future.set_exception(StoreUnavailableError("The sidecar's disk is too slow for its journal."))
        future.add_done_callback(_retrieve)
        return future

    async def close(self) -> None:
        """Commit what was submitted and close the file."""
        if self._thread is not None:
            await asyncio.to_thread(self._queue.put, None, timeout=_CLOSE_SECONDS)
            await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)
            await asyncio.sleep(0)  # what the thread has announced is told before the loop ends
            self._thread = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            last = False
            while len(batch) < _MOST_AT_ONCE and not self._queue.empty():
                item = self._queue.get_nowait()
                if item is None:
                    last = True
                    break
                batch.append(item)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[_Submitted]) -> None:
        connection, loop = self._connection, self._loop
        if connection is None or loop is None:
            return
        error: BaseException | None = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            for item in batch:
                item.result = item.change(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as cause:
            error = StoreUnavailableError("The sidecar's journal could not be written.", cause=cause)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except BaseException as cause:
            loop.call_soon_threadsafe(_tell, batch, StoreUnavailableError("The sidecar's journal failed.", cause=repr(cause)))
            raise
        loop.call_soon_threadsafe(_tell, batch, error)


def _tell(batch: list[_Submitted], error: BaseException | None) -> None:
    for item in batch:
        if error is None and item.then is not None:
            item.then(item.result)
        if item.future.done():
            continue
        if error is None:
            item.future.set_result(item.result)
        else:
            item.future.set_exception(error)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Log a failure, which also counts as its retrieval for callers that do not await."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.error("journal did not take a change", extra={"cause": str(error)})


def _examine(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("the file is damaged")


def _add_columns(connection: sqlite3.Connection) -> None:
    """Bring the tables of an older sidecar's journal up to date."""
    for table, column in _LATER:
        if column.partition(" ")[0] not in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",
            "cache_size = -512",
            "journal_size_limit = 4194304",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
        connection.executescript(_SCHEMA)
        _add_columns(connection)
        _examine(connection)
        if path.stat().st_size > _COMPACT_BYTES:
            connection.execute("VACUUM")
    except BaseException:
        connection.close()
        raise
    return connection

"""One SQLite file: opened safely, written by one thread, read by two."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.sqlite.failure import unavailable
from controlplane.backends.sqlite.schema import bring_up_to_date
from controlplane.backends.sqlite.threads import Threads
from controlplane.backends.sqlite.writer import Change, Writer

T = TypeVar("T")

READERS = 2
"""Reading threads: a long listing does not hold up a delivery."""
CHECKPOINT_PAGES = 4096
"""Size of the write-ahead log at which it is copied into the file; 16 MiB, so recovery after a crash stays short."""


class Database:
    """An open database. `write` and `read` may be called concurrently; a read sees every write that was answered before it."""

    def __init__(self, path: Path, lock: int, writing: sqlite3.Connection) -> None:
        self._path = path
        self._lock = lock
        self._writer = Writer(writing)
        self._readers = Threads(READERS, "sqlite-reader")
        self._own = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._closed = False

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or create the file: 0600, in a folder that is made 0700 if it is missing.

        Raises:
            StoreUnavailableError: It cannot be opened, is damaged, or another process has it open.
            SettingsError: It belongs to another program or a newer Conductor.
        """
        lock = _take(path)
        try:
            writing = _connect(path)
            try:
                _prepare(writing, path)
            except BaseException:
                writing.close()
                raise
        except sqlite3.Error as cause:
            os.close(lock)
            raise unavailable(cause, path) from cause
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock, writing)

    async def write(self, change: Change[T], committed: Callable[[T], None] | None = None) -> T:
        """Return what the change returned, once it is durable; see `Writer.write`.

        Raises:
            StoreUnavailableError: The database refused; nothing of this change was stored.
        """
        try:
            return await self._writer.write(change, committed)
        except sqlite3.Error as cause:
            raise unavailable(cause, self._path) from cause

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the query returned; it sees one state of the database.

        Raises:
            StoreUnavailableError: The database cannot be read.
        """
        if self._closed:
            raise StoreUnavailableError("The store is closed.", next_step="start the control plane again")
        try:
            return await self._readers.call(lambda: self._run(query))
        except sqlite3.Error as cause:
            raise unavailable(cause, self._path) from cause

    async def close(self) -> None:
        """Finish the writes that were begun, then let go of the file."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._readers.close)
        for connection in self._reading:
            connection.close()
        await self._writer.close()
        os.close(self._lock)

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = _connect(self._path)
            connection.execute("PRAGMA query_only = ON")
            self._reading.append(connection)
        connection.execute("BEGIN")
        try:
            return query(connection)
        finally:
            connection.execute("ROLLBACK")


def _take(path: Path) -> int:
    """Make folder and files with their modes and lock the database for this process; return the lock's descriptor."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _own_file(path.with_name(path.name + ".lock"))
    except OSError as cause:
        raise StoreUnavailableError(
            f"The database cannot be opened: {cause.strerror}.", next_step="make its folder writable, or name another", path=path
        ) from cause
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(_own_file(path))  # before SQLite has it open: closing any descriptor drops this process's locks on a file
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    except BlockingIOError as cause:
        os.close(lock)
        raise StoreUnavailableError(
            "Another process has the database open.", next_step="stop it; one file belongs to one control plane", path=path
        ) from cause
    except OSError as cause:
        os.close(lock)
        raise StoreUnavailableError(f"The database cannot be opened: {cause.strerror}.", path=path) from cause
    return lock


def _own_file(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    bring_up_to_date(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailableError(
            "The file system of the database has no shared memory for a write-ahead log.",
            next_step="put it on a local disk",
            path=path,
        )
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {4 * CHECKPOINT_PAGES * 4096}")
    connection.execute("PRAGMA cache_size = -16384")

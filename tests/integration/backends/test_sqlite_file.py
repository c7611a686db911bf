"""What the SQLite backend does with the file: who may read it, who may open it, and what happens when the disk says no."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from claude_conductor.errors import ConductorError, SettingsError, StoreUnavailableError
from claude_conductor.ids import DEFAULT_TENANT
from controlplane.backends.sqlite import schema
from controlplane.backends.sqlite.stores import SqliteStores, open_sqlite
from controlplane.domain.message import Accepted, Receipt, State
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.interfaces.task_store import TaskFilter
from tests.contract.samples import BOX, HandClock, frame, task

LIMITS = MailboxLimits(messages=100_000, bytes=1 << 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "conductor.db"


def opened(path: Path) -> SqliteStores:
    return open_sqlite(path, HandClock(), LIMITS)


def readable_by_all(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o644)


async def test_only_the_owner_can_read_the_files(path: Path) -> None:
    readable_by_all(path)
    stores = opened(path)
    await stores.tasks.insert(task(1))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("conductor.db", "conductor.db-wal", "conductor.db-shm", "conductor.db.lock"), 0o600)
    await stores.close()


async def test_a_missing_folder_is_made_for_the_owner_only(path: Path) -> None:
    await opened(path).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_second_opening_is_refused_until_the_first_is_closed(path: Path) -> None:
    first = opened(path)
    with pytest.raises(StoreUnavailableError, match="Another process"):
        opened(path)
    await first.tasks.insert(task(1))  # the attempt did not take the first one's locks away
    await first.close()
    await opened(path).close()


async def test_a_second_process_is_refused(path: Path) -> None:
    first = opened(path)
    code = f"""
from pathlib import Path
from controlplane.backends.sqlite.database import Database
Database.open(Path({str(path)!r}))
"""
    second = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert second.returncode == 1
    assert "StoreUnavailableError: Another process has the database open." in second.stderr
    await first.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all " * 1000)


def cut_short(path: Path) -> None:
    os.truncate(path, 5000)


def torn_schema(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


@pytest.mark.parametrize("damage", [garbage, cut_short, torn_schema])
async def test_a_damaged_file_is_refused_with_advice(path: Path, damage: object) -> None:
    await opened(path).close()
    assert callable(damage)
    damage(path)
    with pytest.raises(StoreUnavailableError, match=r"damaged|no SQLite") as refused:
        opened(path)
    assert "backup" in refused.value.next_step
    assert refused.value.details["path"] == str(path)


def refusal(path: Path) -> ConductorError:
    with pytest.raises(ConductorError) as refused:
        opened(path)
    return refused.value


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE songs (name TEXT)")
    foreign.close()
    before = path.read_bytes()
    error = refusal(path)
    assert isinstance(error, SettingsError)
    assert "another program" in error.message
    assert path.read_bytes() == before


async def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    await opened(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    newer.close()
    error = refusal(path)
    assert isinstance(error, SettingsError)
    assert "newer version" in error.message
    assert await asyncio.to_thread(refusal, path)  # the lock was let go: still the same answer


def test_a_folder_in_the_way_is_said_so(path: Path) -> None:
    path.mkdir(parents=True)
    assert isinstance(refusal(path), StoreUnavailableError)


async def test_one_bad_change_fails_alone(path: Path) -> None:
    stores = opened(path)
    bad = task(2, create_time=float("nan"))  # NaN is NULL to SQLite, which the column refuses
    outcomes = await asyncio.gather(*(stores.tasks.insert(one) for one in (task(1), bad, task(3))), return_exceptions=True)
    assert [isinstance(outcome, StoreUnavailableError) for outcome in outcomes] == [False, True, False]
    assert [one.id for one in await stores.tasks.ready(9)] == [task(1).id, task(3).id]
    await stores.close()


async def test_a_locked_database_is_said_so_and_works_again(path: Path) -> None:
    stores = opened(path)
    await stores.database.write(lambda db: db.execute("PRAGMA busy_timeout = 50").fetchall())
    intruder = sqlite3.connect(path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        await stores.tasks.insert(task(1))
    intruder.execute("ROLLBACK")
    intruder.close()
    await stores.tasks.insert(task(1))
    await stores.close()


async def fill(stores: SqliteStores) -> int:
    """Append until the store refuses; return how many frames it took."""
    number = 0
    while True:
        number += 1
        try:
            await stores.mailboxes.append([frame(number, frame=b"x" * 50_000)])
        except StoreUnavailableError as error:
            if "free space" in error.next_step:
                return number - 1
            raise


async def check_whole(stores: SqliteStores, accepted: int) -> None:
    frames = await stores.mailboxes.read(BOX, 0, 1 << 40)
    assert [one.first_position for one in frames] == list(range(1, accepted + 1))
    problems = await stores.database.read(lambda db: db.execute("PRAGMA integrity_check").fetchall())
    assert problems == [("ok",)]


async def test_a_full_database_stores_nothing_by_halves_and_works_again(path: Path) -> None:
    stores = opened(path)
    await stores.database.write(lambda db: db.execute("SELECT COUNT(*) FROM tasks").fetchone())
    stores.database._writer._connection.execute("PRAGMA max_page_count = 300")
    accepted = await fill(stores)
    assert accepted > 5
    await check_whole(stores, accepted)
    stores.database._writer._connection.execute("PRAGMA max_page_count = 100000")
    assert list(await stores.mailboxes.append([frame(accepted + 1)])) == [Accepted(accepted + 1)]
    await stores.close()


async def test_an_acknowledgement_still_fits_where_a_large_frame_does_not(path: Path) -> None:
    stores = opened(path)
    stores.database._writer._connection.execute("PRAGMA max_page_count = 300")
    await stores.mailboxes.append([frame(1, frame=b"x" * 800_000)])
    outcomes = await asyncio.gather(
        stores.mailboxes.append([frame(2, frame=b"x" * 800_000)]),
        stores.mailboxes.record(BOX, [Receipt(1, 1, State.ACKED)], 1),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailableError, list]
    assert list(await stores.mailboxes.append([frame(2, frame=b"x" * 700_000)])) == [Accepted(2)]
    await stores.close()


@pytest.mark.root
async def test_a_full_disk_stores_nothing_by_halves_and_works_again(small_disk: Path) -> None:
    stores = opened(small_disk / "store" / "conductor.db")
    accepted = await fill(stores)
    assert accepted > 5
    large = [task(number, reason="x" * 40_000) for number in range(3)]
    outcomes = await asyncio.gather(*(stores.tasks.insert(one) for one in large), return_exceptions=True)
    assert StoreUnavailableError in [type(outcome) for outcome in outcomes]
    await check_whole(stores, accepted)
    stored = await stores.tasks.list(DEFAULT_TENANT, TaskFilter(), "", 9)
    assert list(reversed(stored)) == [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=32m", small_disk], check=True)
    assert list(await stores.mailboxes.append([frame(accepted + 1)])) == [Accepted(accepted + 1)]
    await stores.tasks.insert(task(9))
    await stores.close()
    again = opened(small_disk / "store" / "conductor.db")
    await check_whole(again, accepted + 1)
    await again.close()


async def test_a_database_that_may_not_be_written_is_said_so_and_is_still_read(path: Path) -> None:
    stores = opened(path)
    await stores.tasks.insert(task(1))
    writing = stores.database._writer._connection
    writing.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailableError, match="cannot be written") as refused:
        await stores.tasks.insert(task(2))
    assert "writable" in refused.value.next_step
    assert [one.id for one in await stores.tasks.ready(9)] == [task(1).id]
    writing.execute("PRAGMA query_only = OFF")
    await stores.tasks.insert(task(2))
    await stores.close()


@pytest.mark.root
def test_a_disk_that_is_mounted_read_only_is_said_so_at_once(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    error = refusal(small_disk / "store" / "conductor.db")
    assert isinstance(error, StoreUnavailableError)
    assert "Read-only file system" in error.message


async def test_many_writers_share_a_commit(path: Path) -> None:
    stores = opened(path)
    statements: list[str] = []
    stores.database._writer._connection.set_trace_callback(statements.append)
    await asyncio.gather(*(stores.tasks.insert(task(number)) for number in range(200)))
    assert 1 <= statements.count("COMMIT") <= 20
    assert len(await stores.tasks.ready(999)) == 200
    await stores.close()


async def test_a_writer_alone_waits_for_nobody(path: Path) -> None:
    stores = opened(path)
    statements: list[str] = []
    stores.database._writer._connection.set_trace_callback(statements.append)
    for number in range(5):
        await stores.tasks.insert(task(number))
    assert statements.count("COMMIT") == 5
    await stores.close()

"""The journal: what was promised is there after a kill, and a damaged end costs only what was not promised."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent_sidecar.uplink.frames import Frame, Kind
from agent_sidecar.uplink.journal import Journal
from claude_conductor.errors import AlreadyRunningError, HomeUnusableError, StoreUnavailableError
from tests.fakes.boxes import Boxes, delivery

ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import asyncio, sys
from pathlib import Path
from agent_sidecar.uplink.frames import Frame, Kind
from tests.fakes.boxes import Boxes

async def main():
    boxes = Boxes(Path(sys.argv[1]))
    await boxes.open()
    number = 0
    while True:
        number += 1
        sequence = await boxes.outbox.append(Frame(Kind.RESULT, b"body %d" % number))
        sys.stdout.write(f"{sequence}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


async def test_the_journal_of_an_older_sidecar_is_gone_on_with(tmp_path: Path):
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as older:
        older.execute(
            """CREATE TABLE inbound (mailbox TEXT NOT NULL, position INTEGER NOT NULL, attempt INTEGER NOT NULL,
               seen INTEGER NOT NULL, sender TEXT NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (mailbox, position))
               WITHOUT ROWID"""
        )
        older.execute("INSERT INTO inbound VALUES ('agent-1', 1, 1, 0, 'operator', x'')")
        older.commit()
    boxes = Boxes(path)
    await boxes.open()
    await boxes.inbox.deliver(delivery("agent-1", 2, "b", recipient="topic/x"))
    boxes = await boxes.restart()
    assert [(each.position, each.addressed_to) for each in await boxes.inbox.fetch(10, 0)] == [(1, ""), (2, "topic/x")]
    await boxes.close()


async def test_a_killed_writer_loses_nothing_it_was_promised(tmp_path: Path):
    path = tmp_path / "journal.db"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert writer.stdout is not None
    promised = [int(await writer.stdout.readline()) for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    promised += [int(line) for line in (await writer.stdout.read()).splitlines()]
    await writer.wait()
    boxes = Boxes(path)
    await boxes.open()
    found = [sequence for sequence, _ in await all_frames(boxes)]
    await boxes.close()
    assert promised == list(range(1, len(promised) + 1))
    assert found[: len(promised)] == promised
    assert len(found) - len(promised) <= 1


def copy_torn(path: Path, copy: Path, cut: int) -> None:
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    tail = Path(f"{path}-wal").read_bytes()
    Path(f"{copy}-wal").write_bytes(tail[:-cut] + b"\xff" * (cut // 2))


async def all_frames(boxes: Boxes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while frames := await boxes.outbox.batch(found[-1][0] if found else 0):
        found += frames
    return found


@pytest.mark.parametrize("cut", [1, 100, 4096, 5000])
async def test_a_torn_tail_is_cut_and_what_came_before_is_kept(tmp_path: Path, cut: int):
    path = tmp_path / "journal.db"
    boxes = Boxes(path)
    await boxes.open()
    for number in range(20):
        await boxes.outbox.append(Frame(Kind.RESULT, b"x" * 3000 + str(number).encode()))
    copy = tmp_path / "copy/journal.db"
    copy_torn(path, copy, cut)
    await boxes.close()
    repaired = Boxes(copy)
    await repaired.open()
    sequences = [sequence for sequence, _ in await all_frames(repaired)]
    assert sequences == list(range(1, len(sequences) + 1))
    assert 17 <= len(sequences) < 20
    assert await repaired.outbox.append(Frame(Kind.RESULT, b"next")) == len(sequences) + 1
    await repaired.close()


def siblings(path: Path) -> list[Path]:
    return list(path.parent.iterdir())


def write_nonsense(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)


async def test_a_file_that_is_no_journal_is_moved_aside(tmp_path: Path):
    path = tmp_path / "journal.db"
    write_nonsense(path)
    boxes = Boxes(path)
    await boxes.open()
    assert await boxes.outbox.append(Frame(Kind.RESULT, b"x")) == 1
    await boxes.close()
    assert sorted(each.name for each in siblings(path)) == ["journal.db", "journal.db.damaged"]


async def test_a_second_sidecar_of_the_same_agent_is_refused(boxes: Boxes):
    with pytest.raises(AlreadyRunningError):
        Journal(boxes.path).open()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(HomeUnusableError, match="file"):
        Journal(tmp_path / "file/journal.db").open()


async def test_changes_are_committed_in_order_and_together(boxes: Boxes):
    told: list[int] = []
    futures = [boxes.journal.submit(lambda _, n=n: n, told.append) for n in range(3000)]
    assert await asyncio.gather(*futures) == list(range(3000))
    assert told == list(range(3000))


async def test_a_change_that_fails_takes_its_whole_transaction_with_it_and_the_journal_goes_on(boxes: Boxes):
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(StoreUnavailableError):
        await boxes.journal.submit(broken)
    assert await boxes.outbox.append(Frame(Kind.RESULT, b"x")) == 1

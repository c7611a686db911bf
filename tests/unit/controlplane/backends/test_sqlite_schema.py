"""How an older file becomes a newer one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from claude_conductor.errors import SettingsError
from controlplane.backends.sqlite.schema import MIGRATIONS, bring_up_to_date

FIRST = ("CREATE TABLE songs (name TEXT)", "INSERT INTO songs VALUES ('one')")
SECOND = ("ALTER TABLE songs ADD COLUMN year INTEGER NOT NULL DEFAULT 1970",)
BROKEN = ("ALTER TABLE songs ADD COLUMN genre TEXT", "ALTER TABLE nothing ADD COLUMN x TEXT")


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def version(file: sqlite3.Connection) -> int:
    return int(file.execute("PRAGMA user_version").fetchone()[0])


def test_each_step_is_taken_once_and_keeps_what_is_there(file: sqlite3.Connection) -> None:
    bring_up_to_date(file, "x", [FIRST])
    for _ in range(2):
        bring_up_to_date(file, "x", [FIRST, SECOND])
        assert (version(file), file.execute("SELECT * FROM songs").fetchall()) == (2, [("one", 1970)])


def test_a_step_that_fails_leaves_the_file_as_it_was(file: sqlite3.Connection) -> None:
    bring_up_to_date(file, "x", [FIRST])
    with pytest.raises(sqlite3.OperationalError, match="nothing"):
        bring_up_to_date(file, "x", [FIRST, SECOND, BROKEN])
    assert (version(file), file.execute("SELECT * FROM songs").fetchall()) == (1, [("one",)])


def test_there_is_no_way_back(file: sqlite3.Connection) -> None:
    bring_up_to_date(file, "x", [FIRST, SECOND])
    with pytest.raises(SettingsError, match="newer version"):
        bring_up_to_date(file, "x", [FIRST])


def test_the_real_steps_lead_to_the_newest_version(file: sqlite3.Connection) -> None:
    bring_up_to_date(file, "x")
    assert version(file) == len(MIGRATIONS)


def test_what_was_final_before_is_counted_with_the_bytes_that_are_left(file: sqlite3.Connection) -> None:
    bring_up_to_date(file, "x", MIGRATIONS[:3])
    for number, opened, content in ((1, 0, b"dead"), (2, 0, b""), (3, 1, b"waits")):
        file.execute(
            """INSERT INTO frames (number, mailbox, tenant, sender, type, first, last, open, size, accept_ms, expire_ms,
                                   oldest_id, newest_id) VALUES (?, 1, 'a', 1, 'note', 1, 1, ?, 99, 0, 0, x'', x'')""",
            (number, opened),
        )
        file.execute("INSERT INTO contents VALUES (?, x'', ?)", (number, content))
    bring_up_to_date(file, "x")
    assert file.execute("SELECT number, remains FROM frames ORDER BY number").fetchall() == [(1, 4), (2, 0), (3, 0)]

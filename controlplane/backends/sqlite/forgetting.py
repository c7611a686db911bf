"""Which final messages are kept no longer? Changes of a transaction, the oldest first."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from controlplane.backends.sqlite.frames import split_ids

FORGOTTEN_AT_ONCE: Final = 5000
"""Frames one call forgets; the rest waits for the next, so that it never holds up the writer for long."""


def _forget_contents(db: sqlite3.Connection, numbers: Sequence[tuple[int]]) -> None:
    """Show these final frames no more and remove what they said; their ids stay."""
    db.executemany("UPDATE frames SET kept = 0, remains = 0 WHERE number = ?", numbers)
    db.executemany("UPDATE contents SET frame = x'' WHERE number = ?", numbers)


def forget_heavy(db: sqlite3.Connection, kept_bytes: int) -> None:
    """Forget the oldest final frames of tenants whose final frames hold more than `kept_bytes`, but not their ids."""
    sql = "SELECT tenant, SUM(remains) FROM frames INDEXED BY frames_remaining WHERE remains > 0 GROUP BY tenant"
    for tenant, total in db.execute(sql).fetchall():
        surplus = total - kept_bytes
        numbers: list[tuple[int]] = []
        oldest = "SELECT number, remains FROM frames WHERE remains > 0 AND tenant = ? ORDER BY end_ms, number LIMIT ?"
        for number, size in db.execute(oldest, (tenant, FORGOTTEN_AT_ONCE if surplus > 0 else 0)):
            if surplus <= 0:
                break
            surplus -= size
            numbers.append((number,))
        _forget_contents(db, numbers)


def forget_surplus(db: sqlite3.Connection, kept: int) -> None:
    """Forget the oldest final frames of tenants with more than `kept` final messages, but not their ids."""
    sql = "SELECT tenant, SUM(last - first + 1) FROM frames INDEXED BY frames_kept WHERE open = 0 AND kept = 1 GROUP BY tenant"
    for tenant, total in db.execute(sql).fetchall():
        surplus = total - kept
        numbers: list[tuple[int]] = []
        oldest = """SELECT number, last - first + 1 FROM frames WHERE open = 0 AND kept = 1 AND tenant = ?
                    ORDER BY end_ms, number LIMIT ?"""
        for number, count in db.execute(oldest, (tenant, FORGOTTEN_AT_ONCE if surplus > 0 else 0)):
            if surplus <= 0:
                break
            surplus -= count
            numbers.append((number,))
        _forget_contents(db, numbers)


def forget_early(db: sqlite3.Connection, horizon_ms: int) -> None:
    """Forget frames that ended at or before the horizon, but not their ids."""
    numbers = db.execute(
        "SELECT number FROM frames WHERE open = 0 AND kept = 1 AND end_ms <= ? ORDER BY end_ms LIMIT ?",
        (horizon_ms, FORGOTTEN_AT_ONCE),
    ).fetchall()
    _forget_contents(db, numbers)


def forget_old(db: sqlite3.Connection, horizon_ms: int) -> None:
    """Forget frames that ended at or before the horizon, and their ids."""
    sql = """SELECT frames.number, frames.sender, contents.ids FROM frames JOIN contents USING (number)
             WHERE open = 0 AND end_ms <= ? ORDER BY end_ms LIMIT ?"""
    for number, sender, ids in db.execute(sql, (horizon_ms, FORGOTTEN_AT_ONCE)).fetchall():
        keys = split_ids(ids)
        db.executemany("DELETE FROM seen WHERE id = ? AND sender = ? AND frame = ?", [(key, sender, number) for key in keys])
        db.executemany("DELETE FROM copied WHERE id = ? AND frame = ?", [(key, number) for key in keys])
        db.execute("DELETE FROM frames WHERE number = ?", (number,))
        db.execute("DELETE FROM contents WHERE number = ?", (number,))
    db.execute("DELETE FROM owed WHERE frame NOT IN (SELECT number FROM frames)")

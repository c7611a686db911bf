"""Who is first in the queue? Answered from one index, in steps that do not grow with the queue."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

# The index is named, because without statistics SQLite takes the one on states and sorts the whole queue.
_FIRST_LANE = "SELECT MIN(lane) FROM tasks INDEXED BY tasks_by_lane WHERE state = 'queued'"
_NEXT_LANE = _FIRST_LANE + " AND lane > ?"
_HEADS = """SELECT queue_order, id, version, body FROM tasks INDEXED BY tasks_by_lane
            WHERE state = 'queued' AND lane = ? ORDER BY queue_order, id LIMIT ?"""
_AHEAD = """SELECT COUNT(*) FROM tasks INDEXED BY tasks_by_lane
            WHERE state = 'queued' AND tenant = ? AND (queue_order, id) < (?, ?)"""


def heads(db: sqlite3.Connection, each: int) -> list[tuple[str, int, str]]:
    """Return id, version and body of the first `each` queued tasks of every lane, in the order of the queue."""
    found = [head for lane in _lanes(db) for head in db.execute(_HEADS, (lane, each))]
    return [head[1:] for head in sorted(found)]


def _lanes(db: sqlite3.Connection) -> Iterator[str]:
    (lane,) = db.execute(_FIRST_LANE).fetchone()
    while lane is not None:  # from one to the next: DISTINCT would read every task of each
        yield lane
        (lane,) = db.execute(_NEXT_LANE, (lane,)).fetchone()


def ahead(db: sqlite3.Connection, tenant_id: str, order: float, task_id: str) -> int:
    """Return how many queued tasks of the tenant go before this place. Reads the whole index, though no task."""
    (count,) = db.execute(_AHEAD, (tenant_id, order, task_id)).fetchone()
    return int(count)

"""What it costs to look at the head of the queue."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from controlplane.backends.sqlite import queue
from controlplane.backends.sqlite.schema import bring_up_to_date

ROW = """INSERT INTO tasks (id, tenant, state, version, create_time, queue_order, not_before, waits, parent, labels, lane, body)
         VALUES (?, 'default', ?, 1, 0, ?, 0, 0, '', '{}', ?, ?)"""


def steps(length: int, ask: Callable[[sqlite3.Connection], object]) -> int:
    """Return how many steps of SQLite's machine the question takes with so many tasks queued, and as many that ended."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        bring_up_to_date(db, "x")
        rows = [(f"task_{number:06}", "queued", float(number), "abc"[number % 3], f"body {number}") for number in range(length)]
        ended = [(f"old_{number}", "succeeded", 0.0, "a", "") for number in range(length)]
        db.executemany(ROW, rows + ended)
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        db.set_progress_handler(count, 1)
        ask(db)
        return counted


@pytest.mark.parametrize("each", [1, 8])
def test_the_head_of_a_long_queue_costs_what_that_of_a_short_one_costs(each: int) -> None:
    few, many = (steps(length, lambda db: queue.heads(db, each)) for length in (30, 10_000))
    assert many == few


def test_the_cost_that_is_counted_would_show_a_scan() -> None:
    scan = "SELECT body FROM tasks WHERE state = 'queued' ORDER BY queue_order LIMIT 1"
    assert steps(10_000, lambda db: db.execute(scan).fetchall()) > 10_000


def test_counting_who_goes_first_reads_no_task() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        bring_up_to_date(db, "x")
        plan = db.execute("EXPLAIN QUERY PLAN " + queue._AHEAD, ("default", 1.0, "task_1")).fetchall()
    assert "COVERING INDEX tasks_by_lane" in plan[0][3]

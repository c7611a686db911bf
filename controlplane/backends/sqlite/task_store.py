"""Where tasks live in SQLite: what is searched for in columns, the whole task as JSON beside it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError
from claude_conductor.ids import TaskId, TenantId
from controlplane.backends.codec import decode, encode
from controlplane.backends.sqlite import queue
from controlplane.backends.sqlite.database import Database
from controlplane.backends.sqlite.written import DECODED_CHARACTERS, Written
from controlplane.domain.task import State, Task, queue_order
from controlplane.interfaces.task_store import REQUEST_SECONDS, SHORTEST_PREFIX, TaskFilter, only_one, requester


class SqliteTaskStore:
    """A TaskStore with a row for each task."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._written = Written()

    async def insert(self, task: Task) -> Task:
        """See TaskStore."""
        earlier = await self.insert_all([task])
        return earlier.get(0, task)

    async def insert_all(self, tasks: Sequence[Task]) -> Mapping[int, Task]:
        """See TaskStore."""
        if not tasks:
            return {}
        rows = [_row(task) for task in tasks]
        horizon = self._clock.now() - REQUEST_SECONDS

        def change(db: sqlite3.Connection) -> Mapping[int, str]:
            earlier = _earlier(db, tasks, horizon)
            if not earlier:
                _insert(db, tasks, rows)
            return earlier

        def committed(earlier: Mapping[int, str]) -> None:
            if not earlier:
                for task, row in zip(tasks, rows, strict=True):
                    self._written.put(task, len(row[-1]))

        earlier = await self._database.write(change, committed)
        return {place: _task(body) for place, body in earlier.items()}

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        """See TaskStore."""
        written = self._written.get(task_id)
        if written is not None and written.tenant_id == tenant_id:
            return written
        arguments = (tenant_id, task_id, task_id + "\U0010ffff" if len(task_id) >= SHORTEST_PREFIX else task_id)
        sql = "SELECT body FROM tasks WHERE tenant = ? AND id BETWEEN ? AND ? ORDER BY id LIMIT 6"
        found = await self._many(sql, arguments)
        return only_one(task_id, [task for task in found if task.id == task_id] or found)

    async def save(self, task: Task) -> bool:
        """See TaskStore."""
        row = _row(task)

        def change(db: sqlite3.Connection) -> bool:
            if db.execute(_UPDATE, (*row[1:], task.id, task.version - 1)).rowcount == 0:
                return False
            db.execute("DELETE FROM waits WHERE task = ?", (task.id,))
            _wait(db, task)
            return True

        def committed(saved: bool) -> None:  # noqa: FBT001 - what the change returned
            if saved:
                self._written.put(task, len(row[-1]))

        return await self._database.write(change, committed)

    async def ready(self, each: int) -> Sequence[Task]:
        """See TaskStore."""
        return await self._database.read(lambda db: [self._head(*head) for head in queue.heads(db, each)])

    def _head(self, task_id: str, version: int, body: str) -> Task:
        written = self._written.get(task_id)
        return written if written is not None and written.version == version else _task(body)

    async def ahead(self, task: Task) -> int:
        """See TaskStore."""
        return await self._database.read(lambda db: queue.ahead(db, task.tenant_id, queue_order(task), task.id))

    async def due(self, now: float, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        sql = """SELECT body FROM tasks INDEXED BY tasks_due
                 WHERE state = 'blocked' AND waits = 0 AND not_before <= ? ORDER BY not_before, id LIMIT ?"""
        return await self._many(sql, (now, limit))

    async def in_states(self, states: frozenset[State]) -> Sequence[Task]:
        """See TaskStore."""
        sql = f"SELECT body FROM tasks WHERE state IN ({_marks(len(states))}) ORDER BY create_time, id"  # noqa: S608 - question marks
        return await self._many(sql, tuple(state.value for state in states))

    async def ended_before(self, time: float, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        final = tuple(state.value for state in State if state.final)
        # What was created later has not ended earlier, so the index on creation leaves out what cannot be meant.
        sql = f"""SELECT body FROM tasks WHERE state IN ({_marks(len(final))}) AND create_time < ?
                  ORDER BY create_time, id"""  # noqa: S608 - question marks

        def query(db: sqlite3.Connection) -> Sequence[Task]:
            found: list[Task] = []
            for (body,) in db.execute(sql, (*final, time)):
                task = decode(Task, body)
                if task.end_time is not None and task.end_time < time:
                    found.append(task)
                if len(found) == limit:
                    break
            return found

        return await self._database.read(query)

    async def remove(self, task_ids: Sequence[TaskId]) -> None:
        """See TaskStore."""
        rows = [(task_id,) for task_id in task_ids]

        def change(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM waits WHERE task = ?", rows)
            db.executemany("DELETE FROM requests WHERE task = ?", rows)
            db.executemany("DELETE FROM tasks WHERE id = ?", rows)

        await self._database.write(change, lambda _: self._written.remove(task_ids))

    async def waiting_for(self, task_id: TaskId) -> Sequence[Task]:
        """See TaskStore."""
        sql = """SELECT body FROM waits JOIN tasks ON tasks.id = waits.task
                 WHERE waits.dependency = ? AND tasks.state = 'blocked' ORDER BY tasks.id"""
        return await self._many(sql, (task_id,))

    async def list(self, tenant_id: TenantId, wanted: TaskFilter, after: str, limit: int) -> Sequence[Task]:
        """See TaskStore."""
        sql = "SELECT labels, body FROM tasks WHERE tenant = ?"
        arguments: list[object] = [tenant_id]
        if after:
            sql += " AND id < ?"
            arguments.append(after)
        if wanted.parent_task_id:
            sql += " AND parent != '' AND parent = ?"
            arguments.append(wanted.parent_task_id)
        if wanted.states:
            sql += f" AND state IN ({_marks(len(wanted.states))})"
            arguments += [state.value for state in wanted.states]
        labels = wanted.labels.items()

        def query(db: sqlite3.Connection) -> Sequence[Task]:
            found: list[Task] = []
            for its_labels, body in db.execute(sql + " ORDER BY id DESC", arguments):
                if len(found) >= limit:
                    break
                if labels and not labels <= json.loads(its_labels).items():
                    continue
                task = _task(body)
                if wanted.meets_end(task):
                    found.append(task)
            return found

        return await self._database.read(query)

    async def _many(self, sql: str, arguments: Sequence[object]) -> Sequence[Task]:
        return await self._database.read(lambda db: [_task(body) for (body,) in db.execute(sql, arguments)])


def _task(body: str) -> Task:
    return _remembered(body) if len(body) <= DECODED_CHARACTERS else decode(Task, body)


@lru_cache(maxsize=1024)
def _remembered(body: str) -> Task:
    return decode(Task, body)


_COLUMNS = (
    *("id", "tenant", "state", "version", "create_time", "queue_order", "not_before", "waits", "parent", "labels", "lane"),
    "body",
)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


_INSERT = f"INSERT INTO tasks ({', '.join(_COLUMNS)}) VALUES ({_marks(len(_COLUMNS))}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - names
_UPDATE = f"UPDATE tasks SET {', '.join(f'{name} = ?' for name in _COLUMNS[1:])} WHERE id = ? AND version = ?"  # noqa: S608 - names


def _row(task: Task) -> tuple[Any, ...]:
    return (
        task.id,
        task.tenant_id,
        task.state.value,
        task.version,
        task.create_time,
        queue_order(task),
        task.not_before,
        len(task.waits_for),
        task.spec.parent_task_id,
        json.dumps(dict(task.spec.labels), separators=(",", ":")) if task.spec.labels else "{}",
        task.lane,
        encode(task),
    )


def _earlier(db: sqlite3.Connection, tasks: Sequence[Task], horizon: float) -> dict[int, str]:
    """Return the bodies of the tasks stored under the same requests, by the places of these."""
    sql = """SELECT body FROM requests JOIN tasks ON tasks.id = requests.task
             WHERE requests.tenant = ? AND requests.submitter = ? AND requests.request = ?"""
    found: dict[int, str] = {}
    if any(task.request_id for task in tasks):
        db.execute("DELETE FROM requests WHERE create_time <= ?", (horizon,))
    for place, task in enumerate(tasks):
        row = db.execute(sql, (task.tenant_id, requester(task), task.request_id)).fetchone() if task.request_id else None
        if row is not None:
            found[place] = str(row[0])
    return found


def _insert(db: sqlite3.Connection, tasks: Sequence[Task], rows: Sequence[tuple[Any, ...]]) -> None:
    """Store new tasks with their requests.

    Raises:
        ConductorError: One of the ids is there already; the transaction has to end.
    """
    if db.executemany(_INSERT, rows).rowcount < len(rows):
        raise ConductorError("A task with this id is stored already.", task_id=tasks[0].id)
    asked = [task for task in tasks if task.request_id]
    requests = [(task.tenant_id, requester(task), task.request_id, task.id, task.create_time) for task in asked]
    db.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?)", requests)
    for task in tasks:
        _wait(db, task)


def _wait(db: sqlite3.Connection, task: Task) -> None:
    if task.waits_for:
        db.executemany("INSERT INTO waits VALUES (?, ?)", [(dependency, task.id) for dependency in task.waits_for])

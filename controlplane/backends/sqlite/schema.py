"""What the tables are, and how an older file becomes a newer one: forward, one step a version, all or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from claude_conductor.errors import SettingsError
from controlplane.backends.sqlite.writer import transaction

APPLICATION_ID = 0x436F6E64  # "Cond", https://www.sqlite.org/pragma.html#pragma_application_id

_FIRST = (
    """CREATE TABLE tasks (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, state TEXT NOT NULL, version INTEGER NOT NULL, create_time REAL NOT NULL,
        queue_order REAL NOT NULL, not_before REAL NOT NULL, waits INTEGER NOT NULL, parent TEXT NOT NULL, labels TEXT NOT NULL,
        body TEXT NOT NULL)""",
    "CREATE INDEX tasks_ready ON tasks (queue_order, id) WHERE state = 'queued'",
    "CREATE INDEX tasks_due ON tasks (not_before, id) WHERE state = 'blocked' AND waits = 0",
    "CREATE INDEX tasks_by_state ON tasks (state, create_time, id)",
    "CREATE INDEX tasks_by_tenant ON tasks (tenant, id)",
    "CREATE INDEX tasks_by_parent ON tasks (parent, id) WHERE parent != ''",
    "CREATE TABLE waits (dependency TEXT NOT NULL, task TEXT NOT NULL, PRIMARY KEY (dependency, task)) WITHOUT ROWID",
    "CREATE INDEX waits_by_task ON waits (task)",
    """CREATE TABLE requests (
        tenant TEXT NOT NULL, submitter TEXT NOT NULL, request TEXT NOT NULL, task TEXT NOT NULL, create_time REAL NOT NULL,
        PRIMARY KEY (tenant, submitter, request)) WITHOUT ROWID""",
    "CREATE INDEX requests_by_time ON requests (create_time)",
    "CREATE TABLE agents (tenant TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID",
    "CREATE TABLE events (cursor INTEGER PRIMARY KEY, body TEXT NOT NULL)",
    """CREATE TABLE mailboxes (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, next_position INTEGER NOT NULL, messages INTEGER NOT NULL,
        bytes INTEGER NOT NULL)""",
    "CREATE TABLE senders (number INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (tenant, name))",
    # One row a frame. `spans` is NULL until the first receipt; `open` counts messages that are not final.
    """CREATE TABLE frames (
        number INTEGER PRIMARY KEY, mailbox INTEGER NOT NULL, tenant TEXT NOT NULL, sender INTEGER NOT NULL, type TEXT NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL, open INTEGER NOT NULL, size INTEGER NOT NULL, accept_ms INTEGER NOT NULL,
        expire_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 1, oldest_id BLOB NOT NULL,
        newest_id BLOB NOT NULL, spans TEXT)""",
    "CREATE INDEX frames_open ON frames (mailbox, last) WHERE open > 0",
    "CREATE INDEX frames_expiring ON frames (expire_ms) WHERE open > 0 AND expire_ms > 0",
    "CREATE INDEX frames_ended ON frames (end_ms) WHERE open = 0",
    "CREATE INDEX frames_kept ON frames (tenant, end_ms, first, last) WHERE open = 0 AND kept = 1",
    "CREATE INDEX frames_listed ON frames (tenant, newest_id) WHERE kept = 1",
    # Apart from `frames`, so that a receipt does not rewrite the payload.
    "CREATE TABLE contents (number INTEGER PRIMARY KEY, ids BLOB NOT NULL, frame BLOB NOT NULL)",
    # The id first: ids are UUIDv7, so rows arrive almost in order and an insert touches the last page.
    """CREATE TABLE seen (
        id BLOB NOT NULL, sender INTEGER NOT NULL, frame INTEGER NOT NULL, PRIMARY KEY (id, sender)) WITHOUT ROWID""",
)

_TOPICS = (
    """CREATE TABLE subscriptions (
        tenant TEXT NOT NULL, topic TEXT NOT NULL, mailbox TEXT NOT NULL, PRIMARY KEY (tenant, topic, mailbox)) WITHOUT ROWID""",
    "CREATE INDEX subscriptions_by_mailbox ON subscriptions (tenant, mailbox)",
    # One row a frame to many. Its ids are in `seen` with `frame` = -number; `made` counts copies in the order of `recipients`.
    """CREATE TABLE publications (
        number INTEGER PRIMARY KEY, tenant TEXT NOT NULL, mailbox TEXT NOT NULL, sender TEXT NOT NULL, type TEXT NOT NULL,
        ids BLOB NOT NULL, accept_ms INTEGER NOT NULL, expire_ms INTEGER NOT NULL, frame BLOB NOT NULL, recipients TEXT NOT NULL,
        count INTEGER NOT NULL, made INTEGER NOT NULL)""",
    "CREATE INDEX publications_unfinished ON publications (number) WHERE made < count",
    "CREATE INDEX publications_ended ON publications (MAX(accept_ms, expire_ms)) WHERE made = count",
    # Which frames are copies: what `seen` is for the others.
    "CREATE TABLE copied (id BLOB NOT NULL, frame INTEGER NOT NULL, PRIMARY KEY (id, frame)) WITHOUT ROWID",
)

_OWED = (
    # Bounced messages whose senders are still to be told.
    """CREATE TABLE owed (
        mailbox INTEGER NOT NULL, position INTEGER NOT NULL, frame INTEGER NOT NULL, time_ms INTEGER NOT NULL,
        PRIMARY KEY (mailbox, position)) WITHOUT ROWID""",
)

_LANES = (
    "ALTER TABLE tasks ADD COLUMN lane TEXT NOT NULL DEFAULT ''",  # queued tasks of older files get theirs at start
    # Tenant and state are in it so that counting who goes first does not read the tasks.
    "CREATE INDEX tasks_by_lane ON tasks (lane, queue_order, id, tenant, state) WHERE state = 'queued'",
    "DROP INDEX tasks_ready",
)

_KEPT_BYTES = (
    # Bytes of a final frame whose content is still there.
    "ALTER TABLE frames ADD COLUMN remains INTEGER NOT NULL DEFAULT 0",
    """UPDATE frames SET remains = (SELECT length(contents.frame) FROM contents WHERE contents.number = frames.number)
       WHERE open = 0 AND kept = 1""",
    "CREATE INDEX frames_remaining ON frames (tenant, end_ms, number, remains) WHERE remains > 0",
)

_IDENTITIES = (
    "CREATE TABLE tokens (id TEXT PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, kept_until REAL NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX tokens_kept ON tokens (kept_until)",
    "CREATE TABLE bans (tenant TEXT NOT NULL, agent TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, agent))",
)

_SCHEDULES = (
    """CREATE TABLE schedules (
        tenant TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, next_time REAL,
        body TEXT NOT NULL, PRIMARY KEY (tenant, name)) WITHOUT ROWID""",
    "CREATE INDEX schedules_due ON schedules (next_time, id) WHERE next_time IS NOT NULL",
)

_AUDIT = (
    "CREATE TABLE audit (number INTEGER PRIMARY KEY, body TEXT NOT NULL)",
    "CREATE TABLE audit_heads (number INTEGER PRIMARY KEY, body TEXT NOT NULL)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _TOPICS, _OWED, _KEPT_BYTES, _LANES, _SCHEDULES, _IDENTITIES, _AUDIT)
"""Statements that lead from version n to n + 1."""


def bring_up_to_date(connection: sqlite3.Connection, path: object, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Create or migrate the tables.

    Raises:
        SettingsError: The file belongs to another program, or to a newer Conductor.
        sqlite3.Error: It cannot be read or written.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if application_id != APPLICATION_ID and (tables or version):
        raise SettingsError("This is a database of another program.", next_step="name another file in the settings", path=path)
    if version > len(migrations):
        raise SettingsError(
            "The database was written by a newer version of Conductor.",
            next_step="install that version again, or put the backup made before the upgrade in its place",
            path=path,
            version=version,
            known=len(migrations),
        )
    if version == len(migrations):
        return
    with transaction(connection):
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")

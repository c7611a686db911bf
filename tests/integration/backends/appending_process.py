"""A process that stores and says so: run by test_sqlite_durability, which watches or kills it.

    python -m tests.integration.backends.appending_process PATH SEED CALLERS COUNT [SYNCHRONOUS]

It writes a line to its standard output for everything that was acknowledged: `ok FIRST_NUMBER COUNT POSITION` for a frame,
`task NUMBER` for a task.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from controlplane.backends.sqlite.stores import SqliteStores, open_sqlite
from controlplane.domain.message import Accepted
from controlplane.interfaces.mailbox_store import MailboxLimits
from tests.contract.samples import HandClock, frame, task

LIMITS = MailboxLimits(messages=10_000_000, bytes=1 << 40)
PER_CALLER = 1_000_000


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


async def append(stores: SqliteStores, caller: int, count: int, draw: random.Random) -> None:
    number = caller * PER_CALLER
    for _ in range(count):
        size = draw.choice((1, 1, 7, 64))
        (outcome,) = await stores.mailboxes.append([frame(*range(number, number + size), frame=draw.randbytes(size * 100))])
        assert isinstance(outcome, Accepted)
        say(f"ok {number} {size} {outcome.first_position}")
        await stores.tasks.insert(task(number, request_id=str(number)))
        say(f"task {number}")
        number += size


async def main(path: str, seed: str, callers: str, count: str, synchronous: str = "FULL") -> None:
    stores = open_sqlite(Path(path), HandClock(), LIMITS)
    connection = stores.database._writer._connection
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    say("open")
    base = int(seed) * int(callers)
    async with asyncio.TaskGroup() as group:
        for caller in range(int(callers)):
            draw = random.Random(f"{seed} {caller}")
            group.create_task(append(stores, base + caller, int(count), draw), name=f"caller {caller}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""A worker and a client of taskiq with the stream broker of taskiq-redis, which acknowledges tasks.

As its documentation shows, with one worker process. It has no way to send several tasks together; they are sent concurrently.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from bench.ends import tasks

ADDRESS, DONE = "BENCH_TASKIQ_ADDRESS", "BENCH_TASKIQ_DONE"


def _broker() -> RedisStreamBroker:
    return RedisStreamBroker(os.environ.get(ADDRESS, "redis://127.0.0.1"))


broker = _broker()
_teller: list[tasks.Teller] = []


@broker.task(task_name="bench:noop")
async def noop(text: str) -> None:
    """Do nothing, and tell of it."""
    now = time.monotonic()
    _teller[0].tell(text, now, now)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _begin(_: TaskiqState) -> None:
    _teller.append(tasks.Teller(os.environ[DONE]))
    print("ready", flush=True)


def work(part: tasks.Part) -> None:
    """Become taskiq's own worker program."""
    os.environ |= {ADDRESS: part.address, DONE: part.done}
    command = ["taskiq", "worker", "--workers=1", "--log-level=WARNING", "bench.ends.taskiq:broker"]
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 - what its documentation says to run


class Client:
    """Sends tasks."""

    async def submit(self, text: str) -> None:
        """See Submitter."""
        await noop.kiq(text)

    async def submit_many(self, texts: Sequence[str]) -> None:
        """See Submitter."""
        await asyncio.gather(*(noop.kiq(text) for text in texts))


async def open_client(part: tasks.Part, stack: AsyncExitStack) -> Client:
    """Connect."""
    del part
    await broker.startup()
    stack.push_async_callback(broker.shutdown)
    return Client()


if __name__ == "__main__":
    given = tasks.arguments()
    if given.name != "work" and os.environ.get(ADDRESS) != given.address:  # its broker is made at import
        os.environ[ADDRESS] = given.address
        os.execv(sys.executable, [sys.executable, "-m", "bench.ends.taskiq", *sys.argv[1:]])  # noqa: S606 - ourselves
    tasks.main(work, open_client)

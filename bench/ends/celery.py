"""A worker and a client of Celery with Redis as its broker.

As its documentation recommends: results that nobody wants are not kept (`task_ignore_result`), and many short tasks are
prefetched (`worker_prefetch_multiplier`). The pool is `solo`, the fastest for tasks that do nothing. Gossip, mingle and
heartbeats, which serve several workers, are off. It has no way to send several tasks together: a `group` sends each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from celery import Celery, group
from celery.signals import worker_ready

from bench.ends import tasks

ADDRESS, DONE = "BENCH_CELERY_ADDRESS", "BENCH_CELERY_DONE"
app = Celery("bench", broker=os.environ.get(ADDRESS, ""))
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)
_teller: list[tasks.Teller] = []


@app.task(name="bench.noop")
def noop(text: str) -> None:
    """Do nothing, and tell of it."""
    now = time.monotonic()
    if not _teller:
        _teller.append(tasks.Teller(os.environ[DONE]))
    _teller[0].tell(text, now, now)


@worker_ready.connect
def _say(**_: object) -> None:
    print("ready", flush=True)


def work(part: tasks.Part) -> None:
    """Work until ended."""
    app.conf.broker_url = part.address
    os.environ[DONE] = part.done
    app.worker_main(
        ["--quiet", "worker", "--pool=solo", "--loglevel=warning", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    )


class Client:
    """Sends tasks; its calls block, as they are."""

    async def submit(self, text: str) -> None:
        """See Submitter."""
        noop.delay(text)

    async def submit_many(self, texts: Sequence[str]) -> None:
        """See Submitter."""
        group(noop.s(text) for text in texts).apply_async()


async def open_client(part: tasks.Part, stack: AsyncExitStack) -> Client:
    """Connect."""
    app.conf.broker_url = part.address
    stack.callback(app.close)
    return Client()


if __name__ == "__main__":
    tasks.main(work, open_client)

"""Which task queues are measured side by side, and how is the broker of each started?"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import control_plane, end, wait_until
from bench.systems import Broker, Start, System

SLOTS = 32
"""Tasks at once in our worker process. The peers' workers have their own ways: see their modules in `ends`."""


@dataclass(frozen=True, slots=True)
class Queue(System):
    """A task queue."""

    def missing(self) -> str:
        """Return what is missing to run it; empty if nothing is."""
        if not self.peer:
            return ""
        return System.missing(self) or (
            "" if shutil.which("redis-server") else "redis-server is not installed: `make bench-peers`"
        )


def _ours(store: str) -> Start:
    @contextlib.contextmanager
    def start(place: Path, slots: int) -> Iterator[Broker]:
        with control_plane(place, [f"r{number}" for number in range(slots)], store) as process:
            yield Broker(process.pid, f"unix:{place / 'run/control.sock'}")

    return start


def _redis(address: Callable[[Path], str], settings: Sequence[str] = ()) -> Start:
    """Return what starts a Redis with its own defaults, which keep snapshots and no log, and these settings."""

    @contextlib.contextmanager
    def start(place: Path, slots: int) -> Iterator[Broker]:
        del slots
        at = place / "redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", str(at), "--dir", str(place), "--logfile", str(place / "log")]
        process = subprocess.Popen([*command, *settings])
        try:
            wait_until(process, at.is_socket)
            yield Broker(process.pid, address(at))
        finally:
            end(process)

    return start


def _celery(socket: Path) -> str:
    return f"redis+socket://{socket}"


def _taskiq(socket: Path) -> str:
    return f"unix://{socket}"


_SYNCED = ("--appendonly", "yes", "--appendfsync", "always")
OURS = {
    store: Queue(
        f"conductor {store}", "durable" if store == "sqlite" else "ephemeral", "bench.ends.conductor_tasks", _ours(store)
    )
    for store in ("sqlite", "memory")
}
CELERY = Queue("celery", "ephemeral", "bench.ends.celery", _redis(_celery), "celery", most=(2_000, 0))
CELERY_SYNCED = Queue("celery synced", "durable", "bench.ends.celery", _redis(_celery, _SYNCED), "celery", most=(2_000, 0))
TASKIQ = Queue("taskiq", "ephemeral", "bench.ends.taskiq", _redis(_taskiq), "taskiq", most=(4_000, 0))
TASKIQ_SYNCED = Queue("taskiq synced", "durable", "bench.ends.taskiq", _redis(_taskiq, _SYNCED), "taskiq", most=(4_000, 0))
AGAINST = {"celery": (CELERY, CELERY_SYNCED), "taskiq": (TASKIQ, TASKIQ_SYNCED)}
"""By the names `--against` takes."""

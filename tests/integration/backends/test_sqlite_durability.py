"""What was acknowledged is on the disk: seen in the system calls, and looked for after kill -9.

kill -9 alone proves nothing about fsync (the kernel still writes what a dead process handed it), so the order of the system
calls is looked at as well.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_conductor.ids import DEFAULT_TENANT
from controlplane.backends.sqlite.stores import open_sqlite
from controlplane.domain.message import StoredFrame
from tests.contract.samples import BOX, HandClock, frame, task, task_id
from tests.integration.backends.appending_process import LIMITS, PER_CALLER

CHILD = [sys.executable, "-m", "tests.integration.backends.appending_process"]
CALL = re.compile(r"^(?P<thread>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?:\(| resumed)(?P<rest>.*)$")
ANSWER = re.compile(r'"(ok|task) ')


def calls(trace: str) -> Iterator[tuple[str, str]]:
    """Yield (name, arguments and result) of each call: an answer when it began, anything else when it returned.

    strace splits calls that overlap with others into an `unfinished` and a `resumed` line.
    """
    begun: dict[str, str] = {}
    for match in filter(None, map(CALL.match, trace.splitlines())):
        thread, rest = match["thread"], match["rest"]
        resumed = begun.pop(thread, "")
        unfinished = rest.endswith("<unfinished ...>")
        if unfinished:
            begun[thread] = rest
        if ANSWER.search(resumed) is None and (not unfinished or ANSWER.search(rest)):
            yield match["name"], resumed + rest


def unsynced_answers(trace: str) -> tuple[int, list[str]]:
    """Return how many answers the trace has, and those given before the last write to the log was synced."""
    answers, bad = 0, []
    synced = False
    for name, rest in calls(trace):
        if ANSWER.search(rest):
            answers += 1
            if not synced:
                bad.append(rest)
        elif "-wal" in rest and name in {"write", "pwrite64"}:
            synced = False
        elif "-wal" in rest and name in {"fsync", "fdatasync"}:
            synced = rest.endswith("= 0")
    return answers, bad


def traced(folder: Path, synchronous: str) -> tuple[int, list[str]]:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    out = folder / "trace"
    calls = "trace=write,pwrite64,fsync,fdatasync"
    command = [
        strace,
        "-f",
        "-y",
        "-s",
        "16",
        "-e",
        calls,
        "-o",
        out,
        *CHILD,
        folder / "store" / "x.db",
        "1",
        "1",
        "20",
        synchronous,
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if "ptrace" in run.stderr and run.returncode != 0:
        pytest.skip(f"strace may not trace here: {run.stderr.strip()[:100]}")
    assert run.returncode == 0, run.stderr
    return unsynced_answers(out.read_text())


def test_every_answer_comes_after_the_sync_of_the_log(tmp_path: Path) -> None:
    answers, bad = traced(tmp_path, "FULL")
    assert answers == 40
    assert bad == []


def test_the_trace_would_show_a_missing_sync(tmp_path: Path) -> None:
    answers, bad = traced(tmp_path, "NORMAL")
    assert answers == 40
    assert len(bad) == 40


def run_and_kill(path: Path, seed: int) -> list[list[str]]:
    """Start the process, kill it after a random number of answers, and return all its complete answers."""
    after = random.Random(seed).randrange(5, 150)
    child = subprocess.Popen([*CHILD, path, str(seed), "8", "100000"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        lines = [child.stdout.readline() for _ in range(after)]
    finally:
        child.kill()
    lines += child.stdout.read().splitlines(keepends=True)
    child.stdout.close()
    child.wait(timeout=10)
    return [line.split() for line in lines if line.endswith("\n")]


async def check(path: Path, said: list[list[str]]) -> int:
    stores = open_sqlite(path, HandClock(), LIMITS)
    stored = {one.first_position: one for one in await stores.mailboxes.read(BOX, 0, 1 << 40)}
    acknowledged = 0
    for word, *numbers in said:
        if word == "ok":
            first, count, position = map(int, numbers)
            assert stored[position].message_ids == frame(*range(first, first + count)).message_ids
            acknowledged += 1
        elif word == "task":
            assert (await stores.tasks.get(DEFAULT_TENANT, task_id(int(numbers[0])))).request_id == numbers[0]
    in_order(list(stored.values()))
    assert await stores.database.read(lambda db: db.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
    await stores.close()
    return acknowledged


def in_order(frames: list[StoredFrame]) -> None:
    """Positions have no gaps, and each caller's frames keep their order, acknowledged or not."""
    expected = 1
    newest: dict[int, bytes] = {}
    for one in frames:
        assert one.first_position == expected
        expected = one.last_position + 1
        caller = int.from_bytes(one.message_ids[-4:], "big") // PER_CALLER
        assert one.message_ids > newest.get(caller, b"")
        newest[caller] = one.message_ids


@pytest.mark.parametrize("seed", [1])
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed_again_and_again(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store" / "conductor.db"
    said: list[list[str]] = []
    for round_ in range(5):
        said += await asyncio.to_thread(run_and_kill, path, seed * 10 + round_)
        acknowledged = await check(path, said)
    assert acknowledged > 5 * 2


async def test_ten_thousand_queued_tasks_are_ready_soon_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "store" / "conductor.db"
    code = f"""
import asyncio, os, signal
from pathlib import Path
from controlplane.backends.sqlite.stores import open_sqlite
from tests.contract.samples import HandClock, task
from tests.integration.backends.appending_process import LIMITS

async def main():
    stores = open_sqlite(Path({str(path)!r}), HandClock(), LIMITS)
    await asyncio.gather(*(stores.tasks.insert(task(number)) for number in range(10_000)))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], timeout=50, check=False)
    assert killed.returncode == -9
    start = time.perf_counter()
    stores = open_sqlite(path, HandClock(), LIMITS)
    first = await stores.tasks.ready(100)
    elapsed = time.perf_counter() - start
    assert list(first) == [task(number) for number in range(100)]
    assert await stores.database.read(lambda db: db.execute("SELECT COUNT(*) FROM tasks").fetchone()) == (10_000,)
    assert elapsed < 1.5, f"ready after {elapsed:.2f} s"
    await stores.close()

"""Work in threads: answered where it was asked for, done to its end, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from controlplane.backends.sqlite.threads import Threads


async def test_results_and_errors_come_back_to_who_asked() -> None:
    threads = Threads(2, "test")

    def fail() -> int:
        raise KeyError("x")

    outcomes = await asyncio.gather(
        *(threads.call(lambda n=n: n * n) for n in range(50)), threads.call(fail), return_exceptions=True
    )
    assert outcomes[:50] == [n * n for n in range(50)]
    assert isinstance(outcomes[50], KeyError)
    threads.close()


async def test_what_was_given_to_them_is_done_before_they_end() -> None:
    threads = Threads(1, "ending")
    gate, done = threading.Event(), []
    threads.start(lambda: done.append(gate.wait(10)))
    waiting = asyncio.create_task(threads.call(lambda: done.append("second")))
    await asyncio.sleep(0)
    waiting.cancel()
    gate.set()
    threads.close()
    assert done == [True, "second"]
    assert not [each for each in threading.enumerate() if each.name.startswith("ending")]
    with pytest.raises(asyncio.CancelledError):
        await waiting

"""A run can be ended by several at once, and while its time is just over."""

from __future__ import annotations

import asyncio

from agent_sidecar.isolation.interface import Level, Limits
from agent_sidecar.run.hook import Run
from agent_sidecar.run.lifecycle import Revoked
from agent_sidecar.run.task import Assignment, Cancellation, Lease


async def test_who_ends_a_run_again_before_it_has_noticed_changes_nothing_but_the_reason() -> None:
    """As the answers to a hello and to a heartbeat do, when both name a lease that was taken away."""
    run = Run(Assignment(Lease("task_1", 1, 1), "task/task_1"), "run", Level.STRICT, Limits(), 0.0)
    ended = 0

    def end_again() -> None:
        nonlocal ended
        run.end(Revoked())
        ended += 1

    try:
        async with asyncio.timeout(60) as run.scope:
            run.end(Cancellation(1.0, "enough"))
            asyncio.get_running_loop().call_soon(end_again)  # right after the time-out, which has not been noticed yet
            await asyncio.Event().wait()
    except TimeoutError:
        ended += 10
    assert ended == 11
    assert isinstance(run.ending, Revoked)

"""One sentence for every state a task can be in."""

from __future__ import annotations

from typing import Any

import pytest

from claude_conductor.cli.why import sentence
from claude_conductor.v1 import task_pb2
from claude_conductor.v1.task_pb2 import Task, TaskState

RAN = {"agent_id": "agent-1", "start_time": {"seconds": 100}}


def task(state: str, **fields: Any) -> Task:
    return Task(task_id=fields.pop("task_id", "task_1"), state=TaskState.Value(f"TASK_STATE_{state}"), **fields)


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        (
            task("BLOCKED", reason="attempt 1 of 3 failed (exit code 1); tries again in 12 s, at 2026-01-01 00:00:12 UTC"),
            "is blocked: attempt 1 of 3 failed (exit code 1); tries again in 12 s, at 2026-01-01 00:00:12 UTC",
        ),
        (
            task("QUEUED", reason="waits for a place: type refactor has 1 of 1"),
            "is queued: waits for a place: type refactor has 1 of 1",
        ),
        (task("LEASED", reason="agent-1 prepares it", agent_id="agent-1"), "is leased: agent-1 prepares it"),
        (task("RUNNING", reason="runs on agent-1", **RAN), "is running: runs on agent-1; for 1m 30s"),
        (
            task("RUNNING", reason="runs on agent-1", progress="reads tests", **RAN),
            "is running: runs on agent-1; for 1m 30s; it said: reads tests",
        ),
        (
            task("WAITING_FOR_HUMAN", reason="asks: which branch?", state_time={"seconds": 180}, **RAN),
            "is waiting for human: asks: which branch?; for 10.0 s",
        ),
        (task("RATE_LIMITED", agent_id="agent-1"), "is rate limited: agent-1 has it"),
        (
            task("SUCCEEDED", reason="done", end_time={"seconds": 112}, **RAN),
            "is succeeded: done after 12.0 s on agent-1",
        ),
        (task("FAILED", reason="no such folder"), "is failed: no such folder"),
        (task("DEAD", reason="all 3 attempts failed, last: exit code 1"), "is dead: all 3 attempts failed, last: exit code 1"),
        (task("CANCELLED", reason="enough"), "is cancelled: enough"),
        (task("TIMED_OUT", reason="ran longer than 1h 0m"), "is timed out: ran longer than 1h 0m"),
    ],
)
def test_every_state_has_its_sentence(standing: Task, told: str) -> None:
    assert sentence(standing, [], 190.0) == told


def test_no_state_is_left_out() -> None:
    for state in TaskState.values():
        if state != task_pb2.TASK_STATE_UNSPECIFIED:
            assert sentence(Task(state=state), [], 0.0).rstrip(": ").count(":") >= 1


def test_a_task_that_depends_on_others_says_what_these_do() -> None:
    first = task("RUNNING", task_id="task_a", reason="runs on agent-2", agent_id="agent-2")
    second = task("QUEUED", task_id="task_b", reason="waits for its turn")
    told = sentence(task("BLOCKED"), [first, second], 0.0)
    assert told == (
        "is blocked: it waits for task_a, which is running (runs on agent-2), and task_b, which is queued (waits for its turn)"
    )
    assert sentence(task("BLOCKED"), [first] * 5, 0.0).endswith(", and 2 more")

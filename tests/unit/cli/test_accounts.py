"""What tasks used is summed up once, by whatever they have in common."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from claude_conductor.cli import accounts, report, task_view, usage
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import task_pb2

START = dt.datetime(2026, 11, 22, 6, 0, tzinfo=dt.UTC)
NOW = START.timestamp() + 86_400


def task(
    number: int, state: int = task_pb2.TASK_STATE_SUCCEEDED, seconds: float = 10.0, cost: float = 0.0, **spec: object
) -> task_pb2.Task:
    made = task_pb2.Task(task_id=f"task_{number:032x}", state=state, agent_id=f"agent-{number % 2}", spec=spec)  # type: ignore[arg-type]
    if state in (task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_FAILED):
        made.start_time.FromSeconds(1_000_000)
        made.end_time.FromNanoseconds(round((1_000_000 + seconds) * 1e9))
        made.result.usage.wall_time.FromNanoseconds(round(seconds * 1e9))
        made.result.usage.cost_usd = cost
        made.result.usage.memory_peak_bytes = number << 20
    if state == task_pb2.TASK_STATE_SUCCEEDED:
        made.result.patch_artefact_id = f"sha256_{number}"
        made.result.patch.files, made.result.patch.added_lines = 2, number
    if state == task_pb2.TASK_STATE_FAILED:
        made.result.failure.kind = task_pb2.FAILURE_KIND_EXIT_CODE
        made.result.failure.message = "exit code 3\x1b[2J"
    return made


def test_sums_add_and_memory_is_the_largest():
    account = accounts.total([task(1, cost=0.5), task(3, cost=0.25), task(2, task_pb2.TASK_STATE_FAILED)])

    assert (account.tasks, account.states) == (3, {"succeeded": 2, "failed": 1})
    assert (account.patches, account.files, account.added_lines) == (2, 4, 4)
    assert (account.cost_usd, account.wall_seconds, account.memory_peak_bytes) == (0.75, 30.0, 3 << 20)
    assert accounts.states(account) == "2 succeeded, 1 failed"
    assert account.used() == "30.0 s of agents' time, 3.0 MiB of memory at most, $0.7500"


def spending(number: int, **models: tuple[float, int]) -> task_pb2.Task:
    """Return a task of two attempts whose models cost so much and have so many tokens without a price."""
    made = task(number)
    for name, (cost, unpriced) in models.items():
        made.usage.models.add(model=name, input_tokens=100 + unpriced, turns=1, cost_usd=cost, unpriced_tokens=unpriced)
        made.usage.input_tokens += 100 + unpriced
        made.usage.cost_usd += cost
        made.usage.unpriced_tokens += unpriced
    return made


def test_all_attempts_count_and_not_only_what_the_last_one_did():
    made = task(1, cost=0.5)
    made.usage.cost_usd = 2.0
    made.usage.wall_time.FromSeconds(77)
    account = accounts.total([made])
    assert (account.cost_usd, account.wall_seconds) == (2.0, 77.0)
    assert "$2.0000" in task_view.usage(made)


def test_by_model_each_gets_its_own_part():
    rows = accounts.by([spending(1, opus=(2.0, 0), haiku=(0.5, 0)), spending(2, haiku=(0.25, 0)), task(3, model="told")], "model")
    assert [(row.key, row.tasks, row.cost_usd, row.input_tokens) for row in rows] == [
        ("opus", 1, 2.0, 100),
        ("haiku", 2, 0.75, 200),
        ("told", 1, 0.0, 0),
    ]


def test_a_cost_that_is_not_known_is_never_shown_as_none():
    unknown, partly = spending(1, new=(0.0, 40)), spending(2, new=(0.0, 40), opus=(2.0, 0))
    cost = usage.COLUMNS[-1].value
    assert (cost(accounts.total([unknown])), cost(accounts.total([partly])), cost(accounts.total([task(3)]))) == (
        "?",
        "$2.0000 + ?",
        "-",
    )
    assert accounts.total([unknown]).used().endswith("cost of 40 tokens unknown")
    assert task_view.usage(partly).endswith("over $2.0000 (cost of 40 tokens unknown)")
    assert accounts.total([partly]).plain()["unpriced_tokens"] == 40
    assert "new: 1 answer, 140 tokens in, 0 out, cost unknown" in task_view.models(unknown)


def test_what_tasks_have_in_common_makes_a_row_and_the_dearest_comes_first():
    tasks = [
        task(1, type="refactor", labels={"team": "a"}),
        task(2, type="analysis", cost=1.0),
        task(3, type="refactor", labels={"team": "b"}),
    ]

    assert [(row.key, row.tasks) for row in accounts.by(tasks, "type")] == [("analysis", 1), ("refactor", 2)]
    assert [(row.key, row.tasks) for row in accounts.by(tasks, "label:team")] == [("", 1), ("a", 1), ("b", 1)]
    assert [(row.key, row.tasks) for row in accounts.by(tasks, "agent")] == [("agent-0", 1), ("agent-1", 2)]
    for wrong in ("colour", "label", "label:", ""):
        with pytest.raises(InvalidArgumentError) as refused:
            accounts.by(tasks, wrong)
        assert "label:NAME" in refused.value.next_step


def test_files_of_several_tasks_are_found():
    assert accounts.shared({"t1": ["a", "b", "b"], "t2": ["b"], "t3": ["c", "a"]}) == {"a": ["t1", "t3"], "b": ["t1", "t2"]}


def test_failures_are_counted_by_kind():
    lost = task_pb2.Task(state=task_pb2.TASK_STATE_CANCELLED)
    failed = [task(n, task_pb2.TASK_STATE_FAILED) for n in range(2)]

    assert accounts.reasons([*failed, lost, task(3), task(4, task_pb2.TASK_STATE_RUNNING)]) == [
        ("exit code", 2),
        ("cancelled", 1),
    ]


def test_a_report_says_what_there_is_to_do():
    tasks = [
        task(1, prompt="one"),
        task(2, task_pb2.TASK_STATE_FAILED, prompt="two"),
        task(3, task_pb2.TASK_STATE_RUNNING),
        task(4, seconds=90.0, prompt="four"),
    ]
    overlaps = {"/repo": {"a.txt": [tasks[0].task_id, tasks[3].task_id]}}

    lines = report.told(START, tasks, overlaps, NOW)

    text = "\n".join(lines)
    assert lines[0].endswith("24h 0m ago")
    assert "ended:     3: 2 succeeded, 1 failed" in lines
    assert "open:      1 running" in lines
    assert "failed by: exit code (1)" in lines
    assert lines[lines.index("Longest:") + 1] == f"  1m 30s  {tasks[3].task_id}  four"
    assert f"  {tasks[1].task_id}  exit code: exit code 3 [2J  (two)" in lines
    assert f"  a.txt  2 tasks: {tasks[0].task_id}, {tasks[3].task_id}" in lines
    assert f"  conductor tasks apply {tasks[0].task_id}  # 2 files, +1 -0: one" in lines
    assert "\x1b" not in text
    told = json.loads(json.dumps(report.plain(START, tasks, overlaps)))
    assert told["ended"]["tasks"] == 3
    assert told["open"] == {"running": 1}
    assert [each["task_id"] for each in told["failures"]] == [tasks[1].task_id]
    assert told["longest"][0] == {"task_id": tasks[3].task_id, "seconds": 90.0}


def test_a_report_of_nothing_says_so_and_a_long_one_is_cut():
    assert report.told(START, [], {}, NOW)[-1] == "no task was at work"
    lines = report.told(START, [task(n) for n in range(30)], {}, NOW)
    assert lines[-1] == "  ... and 10 more"

"""What agents write cannot steer a terminal, and tables are whole in a pipe."""

from __future__ import annotations

import json

import pytest

from claude_conductor.cli import output, task_view
from claude_conductor.cli.output import Column, Format
from claude_conductor.v1 import task_pb2
from tests.fakes.operator_services import fail, now, succeed


def task(**more: object) -> task_pb2.Task:
    made = task_pb2.Task(task_id="task_1", state=task_pb2.TASK_STATE_QUEUED, **more)  # type: ignore[arg-type]
    made.create_time.CopyFrom(now())
    return made


def test_control_characters_of_agents_are_not_printed():
    assert output.printable("a\x1b[31mb\nc\x07") == "a [31mb c "
    assert "\x1b" not in output.printable_lines("a\x1b[2Jb\nc")
    assert output.printable_lines("a\tb\n") == "a\tb\n"


def test_a_table_in_a_pipe_is_not_cut_and_has_no_colours(capsys: pytest.CaptureFixture[str]):
    rows = [{"a": "x" * 300, "b": "last"}]
    columns = (Column("A", lambda row: row["a"]), Column("B", lambda row: row["b"]), Column("C", lambda _: "wide", wide=True))

    output.show_rows(Format.TABLE, rows, columns, str, "nothing")

    printed = capsys.readouterr().out
    assert "x" * 300 in printed
    assert "last" in printed
    assert "wide" not in printed
    assert "\x1b" not in printed


def test_on_a_narrow_terminal_the_widest_columns_give_way_and_what_people_need_stays():
    wanted = [37, 9, 7, 6, 14, 60]
    found = output.widths(wanted, [22, 9, 6, 6, 14, 6], 70)

    assert sum(found) == 70
    assert found[0] >= 22, "enough of the id to name the task"
    assert found[1:5] == wanted[1:5], "state, agent, age and patch are whole"


def test_a_table_that_fits_is_as_wide_as_its_words_and_one_that_cannot_stops_at_the_least():
    assert output.widths([5, 8], [3, 3], 80) == [5, 8]
    assert output.widths([50, 8], [20, 3], 10) == [20, 3]


def test_a_task_that_waits_for_another_attempt_says_why_and_names_no_agent():
    waits = task(agent_id="agent-4", reason="attempt 2 in 1.0 s: exit code 1")
    waits.start_time.CopyFrom(now())
    waits.state = task_pb2.TASK_STATE_BLOCKED

    assert task_view.line(waits, 2e9) == "task_1 blocked - attempt 2 in 1.0 s: exit code 1"


def test_the_other_forms_are_for_programs(capsys: pytest.CaptureFixture[str]):
    for form, check in (
        (Format.JSON, lambda text: json.loads(text)[0]["task_id"] == "task_1"),
        (Format.YAML, lambda text: "task_id: task_1" in text),
        (Format.NAME, lambda text: text == "task_1\n"),
        (Format.WIDE, lambda text: "DRIVER" in text),
    ):
        output.show_rows(form, [task()], task_view.COLUMNS, task_view.name, "nothing")
        assert check(capsys.readouterr().out), form
    output.show_rows(Format.TABLE, [], task_view.COLUMNS, task_view.name, "nothing")
    assert capsys.readouterr().out == "nothing\n"


def test_a_finished_task_is_told_with_patch_and_usage():
    done = task()
    succeed(done)
    told = dict(task_view.outcome(done))

    assert "2 files, +10 -3" in told["patch"]
    assert "tasks apply task_1" in told["patch"]
    assert "1.2 s of cpu time" in told["used"]
    assert told["failed"] == ""


def test_a_failed_task_is_told_with_its_kind_and_message():
    done = task()
    fail(done)

    assert task_view.failure(done) == "exit code: it ended with exit code 3"
    assert "failed" in task_view.line(done, 0.0)

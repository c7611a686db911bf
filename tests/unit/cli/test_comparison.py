"""Tasks side by side: what differs is a row, and files that several changed are named."""

from __future__ import annotations

import json

import pytest

from claude_conductor.cli import comparison
from claude_conductor.cli.comparison import Side
from claude_conductor.cli.output import Format
from claude_conductor.cli.patch_text import FileChange
from claude_conductor.v1 import task_pb2


def side(number: int, *files: FileChange, state: int = task_pb2.TASK_STATE_SUCCEEDED, patch: str = "", cost: float = 0.0) -> Side:
    task = task_pb2.Task(task_id=f"task_{number:032x}", state=state, agent_id=f"agent-{number}")  # type: ignore[arg-type]
    task.result.patch_artefact_id = patch or (f"sha256_{number}" if files else "")
    task.result.patch.files = len(files)
    task.result.usage.cost_usd = cost
    if state == task_pb2.TASK_STATE_FAILED:
        task.result.failure.kind = task_pb2.FAILURE_KIND_EXIT_CODE
        task.result.failure.message = "it ended with exit code 3"
        task.result.exit_code = 3
    return Side(task, files)


A, B = FileChange("a", added=1), FileChange("b", "added", added=2)


def test_facts_are_rows_and_what_none_has_is_left_out():
    rows = {row.title: row.cells for row in comparison.facts([side(1, A, cost=0.5), side(2, state=task_pb2.TASK_STATE_FAILED)])}

    assert rows["state"] == ("succeeded", "failed")
    assert rows["patch"] == ("1 file, +0 -0", "none")
    assert rows["exit code"] == ("", "3")
    assert rows["failed"] == ("", "exit code: it ended with exit code 3")
    assert rows["cost"] == ("$0.5000", "")
    assert "tokens in" not in rows


def test_files_that_most_changed_come_first():
    sides = [side(1, A), side(2, A, B), side(3)]

    assert [(row.title, row.cells) for row in comparison.changed(sides)] == [
        ("a", ("+1 -0", "+1 -0", "")),
        ("b", ("", "+2 -0 added", "")),
    ]
    assert comparison.overlap(sides) == ["a"]
    assert comparison.overlap(sides[2:]) == []


def test_identical_patches_are_said_to_be(capsys: pytest.CaptureFixture[str]):
    sides = [side(1, A, patch="sha256_x"), side(2, A, patch="sha256_x"), side(3, A)]

    comparison.show(sides, Format.JSON)

    told = json.loads(capsys.readouterr().out)
    assert [each["same_patch_as"] for each in told] == [sides[1].task.task_id, sides[0].task.task_id, ""]
    assert told[0]["files"] == [{"path": "a", "kind": "changed", "added": 1, "removed": 0, "binary": False, "shared": True}]
    assert {row.title: row.cells for row in comparison.facts(sides)}["patch"][0].endswith("(identical)")


def test_people_get_two_tables_and_a_verdict(capsys: pytest.CaptureFixture[str]):
    comparison.show([side(1, A), side(2, A, B)], Format.TABLE)

    told = capsys.readouterr().out
    assert "FILE" in told
    assert "1 file was changed by more than one of them." in told

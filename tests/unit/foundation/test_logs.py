"""A log line is one JSON object with the record's fields."""

import io
import json
import logging

import pytest

from claude_conductor.telemetry import logs


@pytest.fixture
def stream():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)


def test_a_record_is_a_json_line_with_its_fields(stream):
    logs.configure("info", "json", stream)
    logging.getLogger("x").info("task leased", extra={"task_id": "task_1", "attempt": 2})

    line = json.loads(stream.getvalue())
    assert (line["message"], line["task_id"], line["attempt"], line["level"]) == ("task leased", "task_1", 2, "info")
    assert line["time"].endswith("Z")


def test_a_terminal_gets_short_lines(stream):
    logs.configure("warning", "console", stream)
    logging.getLogger("x").info("not shown")
    logging.getLogger("x").warning("slow", extra={"seconds": 3})

    assert stream.getvalue().rstrip().endswith("warning slow seconds=3")

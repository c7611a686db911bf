"""What is read from growing logs: every line once, as an object that names its program."""

import json
from pathlib import Path

from claude_conductor.supervisor import logs
from claude_conductor.supervisor.following import Following, record, sizes


def said(following: Following) -> list[tuple[str, str]]:
    """Return program and message of every line that was added."""
    return [(line["program"], line["message"]) for line in map(json.loads, following.added())]


def test_begins_where_it_is_told_and_at_the_beginning_of_logs_that_appear_later(tmp_path: Path):
    (tmp_path / "supervisor.log").write_text("old\n")
    following = Following(str(tmp_path), sizes(str(tmp_path)))
    assert said(following) == []
    with (tmp_path / "supervisor.log").open("a") as log:
        log.write('{"message": "new"}\n')
    (tmp_path / "controlplane.log").write_text("first\n")
    assert said(following) == [("controlplane", "first"), ("supervisor", "new")]
    assert said(following) == []


def test_a_line_is_shown_when_it_is_whole(tmp_path: Path):
    log = tmp_path / "supervisor.log"
    log.write_text("ha")
    following = Following(str(tmp_path), {})
    assert said(following) == []
    log.write_text("half\nand")
    assert said(following) == [("supervisor", "half")]


def test_goes_on_after_a_rotation(tmp_path: Path):
    log = tmp_path / "supervisor.log"
    log.write_text("x" * 100 + "\n")
    following = Following(str(tmp_path), sizes(str(tmp_path)))
    assert logs.rotate(str(log), bound=10)
    log.write_text("after\n")
    assert said(following) == [("supervisor", "after")]


def test_no_folder_is_no_lines(tmp_path: Path):
    assert sizes(str(tmp_path / "none")) == {}
    assert said(Following(str(tmp_path / "none"), {})) == []


def test_every_record_is_one_line_of_json():
    assert json.loads(record("p", b'{"level": "info", "message": "m"}')) == {"program": "p", "level": "info", "message": "m"}
    assert json.loads(record("p", b"[1]")) == {"program": "p", "message": "[1]"}
    assert json.loads(record("p", b"\xff\x1b[2J")) == {"program": "p", "message": "\ufffd\x1b[2J"}
    assert b"\x1b" not in record("p", b"\x1b[2J")

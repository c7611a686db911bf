"""A patch is read by what git counts, and shown with nothing in it that steers a terminal."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from claude_conductor.cli import diff_view
from claude_conductor.cli.patch_text import FileChange, Part, files, lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def patch(tmp_path: Path) -> bytes:
    """What git makes of every sort of change."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True).stdout

    git("init", "-q")
    (tmp_path / "changed").write_text("".join(f"{n}\n" for n in range(40)))
    (tmp_path / "deleted").write_text("-- a/fake\n++ b/fake\n")
    (tmp_path / "no end").write_text("x")
    (tmp_path / "tool").write_text("x\n")
    git("add", ".")
    git("-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false", "commit", "-qm", "first")
    (tmp_path / "changed").write_text("".join(f"{n}\n" for n in range(41) if n not in (3, 30)))
    (tmp_path / "deleted").unlink()
    (tmp_path / "no end").write_text("x\ny")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "new b and b").write_text("diff --git a/x b/x\n@@ -1,9 +1,9 @@\n")
    (tmp_path / 'odd " ü"\t\n').write_text("1\n")
    (tmp_path / "image").write_bytes(bytes(range(256)))
    (tmp_path / "void").touch()
    git("add", "--all")
    return git("diff", "--cached", "--binary", "--no-renames", "--full-index")


def test_files_and_their_lines_are_those_of_git(patch: bytes):
    assert files(patch) == [
        FileChange("changed", "changed", 1, 2),
        FileChange("deleted", "deleted", 0, 2),
        FileChange("image", "added", binary=True),
        FileChange("new b and b", "added", 2, 0),
        FileChange("no end", "changed", 2, 1),
        FileChange('odd " ü"\t\n', "added", 1, 0),
        FileChange("tool"),
        FileChange("void", "added"),
    ]
    assert files(b"") == []


def test_every_line_comes_back_in_order(patch: bytes):
    assert b"\n".join(line.content for line in lines(patch)) + b"\n" == patch
    parts = [line.part for line in lines(patch)]
    assert parts.count(Part.FILE) == 8
    assert parts.count(Part.HUNK) == 7


def test_what_steers_a_terminal_is_written_out():
    hostile = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@ \x1b]0;title\x07\n-a\x1b[2J\r\n"
    hostile += b"+b\xff\x9b31m\n+\xe2\x80\xae\tend\x7f\n"

    told = list(diff_view.shown(hostile, io.StringIO()))

    assert told[3:] == [
        "@@ -1 +1,2 @@ ^[]0;title^G",
        "-a^[[2J^M",
        "+b\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}31m",
        "+<U+202E>\tend^?",
    ]
    assert diff_view.visible("\x9b") == "<U+009B>"


def test_a_terminal_gets_colours_unless_told_not_to(patch: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = list(diff_view.shown(patch, Terminal()))
    assert "\x1b[32m+40\x1b[0m" in coloured
    assert "\x1b[31m-3\x1b[0m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")

    assert not any("\x1b" in line for line in diff_view.shown(patch, Terminal()))


def test_binary_content_is_told_by_its_size(patch: bytes):
    told = list(diff_view.shown(patch, io.StringIO()))

    at = told.index("GIT binary patch")
    assert told[at + 1] == "256 B of content, left out here"
    assert told[at + 2].startswith("diff --git")


def test_a_summary_has_a_line_per_file_and_a_sum(patch: bytes):
    told = diff_view.stat(files(patch))

    assert told[0] == " +1 -2  changed"
    assert told[1] == " +0 -2  deleted (deleted)"
    assert told[2] == "binary  image (added)"
    assert told[5] == ' +1 -0  odd " ü"\t^J (added)'
    assert told[-1] == "8 files, +6 -5"
    assert diff_view.stat([]) == []

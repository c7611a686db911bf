"""Wrong use of the command line is said with what is right, and has the documented exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from claude_conductor.cli import main

Conduct = Callable[..., str]


@pytest.fixture
def conductor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Conduct]:
    """Runs the command line in this process, in a home nothing runs in; returns what it said on standard error."""
    for name in [name for name in os.environ if name.startswith("CONDUCTOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CONDUCTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CONDUCTOR_CONTEXT", "")  # `--context` sets it; so it is taken back after the test
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()

    def run(*arguments: str, code: int) -> str:
        with (tmp_path / "empty").open() as nothing:
            monkeypatch.setattr(sys, "stdin", nothing)
            found = main.run(typer.main.get_command(main.app), list(arguments))
        said = capsys.readouterr()
        assert found == code, said.err
        assert said.out == ""
        for word in ("error: ", "next: "):
            assert word in said.err
        return said.err

    yield run
    assert not (tmp_path / "home" / "logs" / "cli.log").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stauts"], ["status"]),
        (["tasks", "shwo"], ["show"]),
        (["start", "--agnets", "2"], ["--agents"]),
        (["run", "x", "-n", "0"], ["-n"]),
        (["run", "x", "-n", "many"], ["-n", "integer"]),
        (["start", "--wait-timeout", "soon"], ["--wait-timeout", "90s"]),
        (["stop", "--timeout", "soon"], ["--timeout", "90s"]),
        (["status", "-o", "xml"], ["xml", "json"]),
        (["tasks", "show"], ["TASK"]),
        (["run"], ["nothing to do"]),
        (["run", "x", "--agent", "claude"], ["claude_code"]),
        (["run", "x", "--agent", "command"], ["--cmd"]),
        (["run", "x", "--memory", "much"], ["--memory"]),
        (["run", "x", "--env", "novalue"], ["NAME=VALUE"]),
        (["run", "x", "--folder", "/nowhere/at/all"], ["/nowhere/at/all"]),
        (["run", "-f", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["tasks", "list", "--state", "sleeping"], ["sleeping", "queued"]),
        (["messages", "send", "agent-1"], ["--file"]),
        (["messages", "fetch", "--wait", "2h"], ["60 s"]),
        (["start", "--wait-timeout", "soon"], ["90s"]),
        (["start", "--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["start", "--level", "loose"], ["--level", "strict"]),
        (["start", "--agents", "0"], ["at least one agent"]),
        (["explain", "NO_SUCH_REASON"], ["explain"]),
        (["grpcurl", "TaskService/Submit"], ["TaskService/SubmitTask"]),
        (["context", "use", "nope"], ["local"]),
        (["context", "add", "x", "--address", "example.org"], ["unix:/", "HOST:PORT"]),
        (["--context", "nope", "status"], ["nope"]),
        (["logs", "task_1", "--component", "x"], ["exclude"]),
        (["config", "import"], ["conductor config import <"]),
    ],
)
def test_wrong_use_is_said_with_what_is_right_and_exits_2(conductor: Conduct, arguments: list[str], words: list[str]):
    said = conductor(*arguments, code=2)

    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["stop"],
        ["tasks", "list"],
        ["tasks", "show", "task_1"],
        ["tasks", "cancel", "task_1"],
        ["agents", "list"],
        ["agents", "inspect", "agent-1"],
        ["messages", "list"],
        ["messages", "send", "agent-1", "hello"],
        ["events"],
        ["logs"],
        ["logs", "task_1"],
    ],
)
def test_without_a_set_everything_says_how_to_start_one_and_exits_5(conductor: Conduct, arguments: list[str]):
    assert "conductor start" in conductor(*arguments, code=5)


@pytest.mark.parametrize("arguments", [[], ["tasks"], ["config"]])
def test_without_a_verb_the_help_is_all_that_is_said(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("CONDUCTOR_HOME", str(tmp_path))

    assert main.run(typer.main.get_command(main.app), arguments) == 2

    said = capsys.readouterr()
    assert "Usage: conductor" in said.out + said.err
    assert "error:" not in said.err

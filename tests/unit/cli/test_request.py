"""What is asked for on the command line becomes the right task, or a sentence that names the flag."""

from __future__ import annotations

import pytest

from claude_conductor.cli.request import Request, pairs, spec
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import agent_pb2


def test_an_agent_is_named_as_people_write_it():
    assert spec(Request(prompt="x", agent="Claude-Code")).driver == "claude_code"
    assert spec(Request(prompt="x")).driver == ""


def test_a_command_line_is_a_shell_line_and_the_prompt_a_word_of_its_own():
    task = spec(Request(prompt="$(rm -rf /); 'x'", cmd="echo {prompt} | tee out"))

    assert task.driver == "command"
    assert list(task.command) == ["/bin/sh", "-c", 'echo "$1" | tee out', "sh", "{prompt}"]
    assert list(spec(Request(cmd="make check")).command) == ["/bin/sh", "-c", "make check"]


def test_limits_and_level_are_set_only_where_they_were_said():
    assert not spec(Request(prompt="x")).HasField("isolation")
    asked = spec(Request(prompt="x", memory="2g", cpus="0.5", disk="10g", level="Moderate", timeout="30m")).isolation
    assert (asked.limits.memory_bytes, asked.limits.cpus, asked.limits.workspace_bytes) == (2 << 30, 0.5, 10 << 30)
    assert asked.level == agent_pb2.ISOLATION_LEVEL_MODERATE
    assert spec(Request(prompt="x", timeout="30m")).timeout.seconds == 1800


def test_a_set_up_is_a_shell_line_with_its_files():
    assert not spec(Request(prompt="x")).HasField("setup")
    setup = spec(Request(prompt="x", setup="make deps", setup_timeout="2m", setup_cache=("x.lock",), setup_keep=("lib",))).setup
    assert list(setup.command) == ["/bin/sh", "-c", "make deps"]
    assert (setup.timeout.seconds, list(setup.cache_files), list(setup.keep)) == (120, ["x.lock"], ["lib"])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(), ["nothing to do"]),
        (Request(prompt="x", agent="claud-code"), ["claude_code", "claud-code"]),
        (Request(prompt="x", agent="command"), ["--cmd"]),
        (Request(prompt="x", agent="scripted", cmd="ls"), ["--cmd", "scripted"]),
        (Request(prompt="x", memory="lots"), ["--memory", "512m"]),
        (Request(prompt="x", cpus="-1"), ["--cpus"]),
        (Request(prompt="x", timeout="soon"), ["--timeout"]),
        (Request(prompt="x", level="loose"), ["strict, moderate, minimal"]),
        (Request(prompt="x", priority=11), ["--priority"]),
        (Request(prompt="x", ref="main"), ["--ref", "--repo"]),
        (Request(prompt="x", repo="/a", folder="/b"), ["exclude"]),
        (Request(prompt="x", writes=("src/",)), ["--writes", "--repo"]),
        (Request(prompt="x", repo="/a", writes=("src/", "/a/src/")), ["--writes", "/a/src/", "from its top"]),
        (Request(prompt="x", repo="/a", writes=("",)), ["--writes", "not empty"]),
        (Request(prompt="x", setup_cache=("x.lock",)), ["--setup-cache", "--setup "]),
        (Request(prompt="x", setup="make", setup_timeout="soon"), ["--setup-timeout"]),
    ],
)
def test_what_cannot_be_is_said_with_its_flag(request_: Request, words: list[str]):
    with pytest.raises(InvalidArgumentError) as problem:
        spec(request_)
    said = f"{problem.value} {problem.value.next_step}"
    assert all(word in said for word in words), said


def test_names_and_values_are_split_at_the_first_equals_sign():
    assert pairs("--env", ["A=b=c", "D="]) == {"A": "b=c", "D": ""}
    for wrong in ("A", "=b"):
        with pytest.raises(InvalidArgumentError, match="NAME=VALUE"):
            pairs("--env", [wrong])

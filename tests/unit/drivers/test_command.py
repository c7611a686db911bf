from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_sidecar.drivers.command import LONGEST_ARGUMENT, CommandDriver
from agent_sidecar.drivers.driver import Answer, TaskOrder
from agent_sidecar.drivers.grpc_agent import GrpcAgentDriver
from agent_sidecar.drivers.plain_output import PlainOutput
from claude_conductor.errors import InvalidArgumentError

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw of a text builds tables for seconds
ORDER = TaskOrder(
    task_id="task_1", type="code_review", prompt="look; at $(this) 'and' \"that\"", command=("review", "--about={prompt}", "x")
)


def test_the_prompt_fills_the_placeholder_inside_an_argument():
    command = CommandDriver().command(ORDER)

    assert command.argv == ("review", f"--about={ORDER.prompt}", "x")
    assert (command.stdin, dict(command.files)) == (b"", {})


def test_the_prompt_arrives_on_standard_input():
    command = CommandDriver().command(replace(ORDER, command=("review",), prompt_by="stdin"))

    assert (command.argv, command.stdin) == (("review",), ORDER.prompt.encode())


def test_the_prompt_arrives_in_a_file_that_an_argument_can_name():
    command = CommandDriver().command(replace(ORDER, command=("review", "{prompt_file}"), prompt_by="file"))

    assert command.argv == ("review", "/workspace/.conductor/prompt.txt")
    assert dict(command.files) == {".conductor/prompt.txt": ORDER.prompt.encode()}


def test_placeholders_that_the_prompt_itself_contains_are_left_alone():
    command = CommandDriver().command(replace(ORDER, prompt="{prompt} {prompt_file}"))

    assert command.argv[1] == "--about={prompt} {prompt_file}"


@CALM
@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60))
def test_a_prompt_in_a_shell_line_is_data_and_never_code(prompt: str):
    command = CommandDriver().command(
        replace(ORDER, prompt=prompt, command=(), shell_line="printf %s {prompt}; printf '|%s' end")
    )

    output = subprocess.run(command.argv, capture_output=True, check=True).stdout
    assert output == prompt.encode() + b"|end"


@pytest.mark.parametrize(
    "order",
    [
        replace(ORDER, command=()),
        replace(ORDER, shell_line="make"),
        replace(ORDER, prompt_by="telepathy"),
        replace(ORDER, prompt="nul \0 inside"),
        replace(ORDER, prompt="x" * (LONGEST_ARGUMENT + 1)),
        replace(ORDER, command=(), shell_line="review {prompt}", prompt="x" * (LONGEST_ARGUMENT + 1)),
    ],
    ids=["no command", "both", "unknown way", "nul", "too long", "too long for the shell"],
)
def test_an_order_that_cannot_be_started_is_refused_before_anything_starts(order: TaskOrder):
    with pytest.raises(InvalidArgumentError):
        CommandDriver().command(order)


def test_the_longest_argument_is_what_the_kernel_takes():
    assert (
        len(subprocess.run(["/bin/echo", "x" * LONGEST_ARGUMENT], capture_output=True, check=True).stdout) == LONGEST_ARGUMENT + 1
    )
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/echo", "x" * (LONGEST_ARGUMENT + 1)], check=False)


def test_a_long_prompt_passes_by_standard_input():
    prompt = "x" * (LONGEST_ARGUMENT + 1)

    assert CommandDriver().command(replace(ORDER, command=("review",), prompt=prompt, prompt_by="stdin")).stdin == prompt.encode()


def test_folders_of_the_settings_come_behind_the_systems():
    command = CommandDriver((Path("/opt/tool"),), (Path("/opt/tool/bin"),)).command(replace(ORDER, environment={"A": "1"}))

    assert command.toolchains == (Path("/opt/tool"),)
    assert dict(command.environment) == {"PATH": "/usr/local/bin:/usr/bin:/bin:/opt/tool/bin", "A": "1"}


def test_the_long_running_agent_takes_its_program_from_the_order_or_the_settings():
    driver = GrpcAgentDriver(("python", "agent.py"))

    assert driver.capabilities.long_running
    assert driver.command(replace(ORDER, command=())).argv == ("python", "agent.py")
    assert driver.command(replace(ORDER, command=("other",))).argv == ("other",)
    assert driver.command(replace(ORDER, command=(), shell_line="exec other")).argv == ("/bin/sh", "-c", "exec other")
    with pytest.raises(InvalidArgumentError):
        GrpcAgentDriver().command(replace(ORDER, command=()))


def test_the_answer_is_the_end_of_the_output_from_a_whole_line():
    parser = PlainOutput(answer_bytes=12)

    shown = b"".join(parser.feed(piece)[0] for piece in (b"first line\nsec", b"ond\n", b"third\n"))

    assert shown == b"first line\nsecond\nthird\n"
    assert parser.finish() == (b"", [Answer("third")])


def test_a_short_answer_keeps_all_its_lines():
    parser = PlainOutput()
    parser.feed(b"one\ntwo\n")

    assert parser.finish() == (b"", [Answer("one\ntwo")])


def test_a_silent_program_has_no_answer():
    assert PlainOutput().finish() == (b"", [])


@CALM
@given(st.lists(st.binary(max_size=40)), st.integers(0, 50))
def test_plain_output_is_the_same_however_it_is_cut(chunks: list[bytes], limit: int):
    cut, whole = PlainOutput(limit), PlainOutput(limit)

    shown = b"".join(cut.feed(chunk)[0] for chunk in chunks)

    assert whole.feed(b"".join(chunks))[0] == shown
    assert cut.finish() == whole.finish()

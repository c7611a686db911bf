from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent_sidecar.drivers.claude_code import PLACEHOLDER_KEY, ClaudeCodeDriver
from agent_sidecar.drivers.command import LONGEST_ARGUMENT
from agent_sidecar.drivers.driver import TaskOrder
from claude_conductor.errors import InvalidArgumentError, MissingProgramError

from .conftest import FakeFinder

ORDER = TaskOrder(task_id="task_1", type="refactor", prompt="rename it")
SCOPE = "/home/u/node_modules/@anthropic-ai"
NATIVE = f"{SCOPE}/claude-code-linux-x64/claude"
STUB = f"{SCOPE}/claude-code/bin/claude.exe"
NPM = {"on_path": {"claude": "/home/u/bin/claude"}, "links": {"/home/u/bin/claude": STUB}, "scripts": [STUB]}


def driver(finder: FakeFinder, machine: str = "x86_64", **options: object) -> ClaudeCodeDriver:
    return ClaudeCodeDriver(finder, machine=machine, **options)  # type: ignore[arg-type]


def test_the_native_program_next_to_npms_launcher_is_started():
    command = driver(FakeFinder(**NPM, native=[NATIVE])).command(ORDER)

    assert command.argv == (
        *(NATIVE, "-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"),
        *("--", "rename it"),
    )
    assert command.toolchains == (Path(NATIVE).parent,)


def test_the_package_for_the_processor_and_c_library_is_chosen():
    arm = f"{SCOPE}/claude-code-linux-arm64/claude"
    musl = f"{SCOPE}/claude-code/node_modules/@anthropic-ai/claude-code-linux-x64-musl/claude"

    assert driver(FakeFinder(**NPM, native=[NATIVE, arm]), "aarch64").command(ORDER).argv[0] == arm
    assert driver(FakeFinder(**NPM, native=[musl])).command(ORDER).argv[0] == musl


def test_a_native_program_without_npm_is_started_where_it_really_lies():
    real = "/home/u/.local/share/claude/versions/2.1.330"
    finder = FakeFinder(on_path={"claude": "/home/u/.local/bin/claude"}, links={"/home/u/.local/bin/claude": real}, native=[real])

    command = driver(finder).command(ORDER)

    assert command.argv[0] == real
    assert command.toolchains == (Path(real).parent,)


def test_a_program_of_the_system_needs_no_toolchain():
    finder = FakeFinder(on_path={"claude": "/usr/bin/claude"}, native=["/usr/bin/claude"])

    assert driver(finder).command(ORDER).toolchains == ()


def test_the_path_of_the_settings_goes_before_the_search_path():
    finder = FakeFinder(**NPM, native=[NATIVE, "/opt/claude"])

    assert driver(finder, program=Path("/opt/claude")).command(ORDER).argv[0] == "/opt/claude"


@pytest.mark.parametrize(
    ("finder", "options"),
    [(FakeFinder(), {}), (FakeFinder(), {"program": Path("/opt/claude")}), (FakeFinder(**NPM), {})],
    ids=["not on the search path", "settings name what is not there", "launcher without its program"],
)
def test_a_missing_program_says_how_to_get_it(finder: FakeFinder, options: dict[str, object]):
    with pytest.raises(MissingProgramError) as missing:
        driver(finder, **options).command(ORDER)
    assert "npm install -g @anthropic-ai/claude-code" in missing.value.next_step


def test_turns_and_model_are_passed_and_the_tasks_model_wins():
    finder = FakeFinder(**NPM, native=[NATIVE])
    plain = driver(finder, model="opus").command(ORDER).argv
    asked = driver(finder, model="opus").command(replace(ORDER, model="haiku", max_turns=7)).argv

    assert plain[-4:-2] == ("--model", "opus")
    assert asked[6:10] == ("--max-turns", "7", "--model", "haiku")


def test_it_reaches_only_the_gateway_and_holds_only_a_placeholder():
    command = driver(FakeFinder(**NPM, native=[NATIVE]), port=9000).command(replace(ORDER, environment={"CI": "1"}))

    assert dict(command.bridges) == {9000: "model.sock"}
    assert command.environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9000"
    assert command.environment["ANTHROPIC_API_KEY"] == PLACEHOLDER_KEY
    assert command.environment["CI"] == "1"


def test_a_prompt_that_looks_like_an_option_is_none():
    assert driver(FakeFinder(**NPM, native=[NATIVE])).command(replace(ORDER, prompt="--mcp-config x")).argv[-2:] == (
        "--",
        "--mcp-config x",
    )


def test_a_prompt_longer_than_an_argument_goes_to_standard_input():
    prompt = "x" * (LONGEST_ARGUMENT + 1)

    command = driver(FakeFinder(**NPM, native=[NATIVE])).command(replace(ORDER, prompt=prompt))

    assert command.stdin == prompt.encode()
    assert "--" not in command.argv


@pytest.mark.parametrize(
    "order",
    [replace(ORDER, prompt="  "), replace(ORDER, prompt="a\0b"), replace(ORDER, environment={"ANTHROPIC_API_KEY": "sk-mine"})],
    ids=["empty", "nul", "key in the task"],
)
def test_an_order_it_cannot_take_is_refused(order: TaskOrder):
    with pytest.raises(InvalidArgumentError) as refused:
        driver(FakeFinder(**NPM, native=[NATIVE])).command(order)
    assert "sk-mine" not in str(refused.value)


def test_it_is_given_our_tools_and_no_others():
    argv = driver(FakeFinder(**NPM, native=[NATIVE]), tools="conductor-agent").command(ORDER).argv
    config = json.loads(argv[argv.index("--mcp-config") + 1])

    assert "--strict-mcp-config" in argv
    assert argv[-2:] == ("--", "rename it")
    assert config["mcpServers"]["conductor"]["command"] == "conductor-agent"
    assert config["mcpServers"]["conductor"]["args"] == ["mcp"]
    assert config["mcpServers"]["conductor"]["alwaysLoad"] is True, "else its first turn does not have them"

"""The command beside every agent's socket: what it is made of, what is shown for it, and where it is found."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent_sidecar.local import agent_tools
from agent_sidecar.local.agent_tools import AgentTools
from agent_sidecar.run.hooks.environment import environment
from claude_conductor.errors import HomeUnusableError

TOOLS = AgentTools(Path("/opt/a python"), Path("/opt/lib"), (Path("/src/x/claude_conductor"),), (Path("/src/x"),))


def test_the_installed_command_runs_whatever_the_agents_variables_and_folder_say(tmp_path: Path):
    agent_tools.install(agent_tools.find(), tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('taken in')")
    program = tmp_path / "bin/conductor-agent"

    done = subprocess.run(
        [program, "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.returncode == 0, done.stderr
    assert "send a message" in done.stdout


def test_only_what_the_command_imports_is_shown_and_never_a_checkout_or_site_packages():
    shown = agent_tools.find().shown
    names = {path.name for path in shown}

    assert {"claude_conductor", "grpc", "google"} <= names
    assert not {path for path in shown if path.name in ("site-packages", "dist-packages") or (path / ".git").exists()}
    assert all(path.exists() for path in shown)
    assert not [path for path in shown if path.is_relative_to("/usr")]


def test_a_path_with_spaces_and_a_system_interpreter_are_no_trouble():
    assert "'/opt/a python' -I -S -B -c" in TOOLS.script
    assert AgentTools(Path("/usr/bin/python3"), Path("/usr"), (), ()).shown == ()


def test_the_command_of_an_earlier_version_is_replaced_and_everybody_may_run_it(tmp_path: Path):
    agent_tools.install(TOOLS, tmp_path)
    agent_tools.install(agent_tools.find(), tmp_path)
    program = tmp_path / "bin/conductor-agent"

    assert str(Path(sys.base_prefix)) in program.read_text() or "/usr" in program.read_text()
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert [path.name for path in program.parent.iterdir()] == ["conductor-agent"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "bin").write_text("in the way")

    with pytest.raises(HomeUnusableError):
        agent_tools.install(TOOLS, tmp_path)


def test_the_command_is_at_the_end_of_whatever_path_the_agent_has():
    assert environment("agent-1", "task_1", "", {})["PATH"] == "/usr/local/bin:/usr/bin:/bin:/run/conductor/bin"
    assert environment("agent-1", "task_1", "", {"PATH": "/opt/bin"})["PATH"] == "/opt/bin:/run/conductor/bin"
    assert environment("agent-1", "", "", {"PATH": ""}, "/home/x")["PATH"] == "/home/x/bin"


def test_our_own_names_go_over_what_a_task_asks_for():
    asked = {"CONDUCTOR_SOCKET": "/tmp/fake.sock", "CONDUCTOR_AGENT_ID": "boss", "LANG": "de_DE", "MINE": "1"}
    made = environment("agent-1", "task_1", "00-x", asked)

    assert (made["CONDUCTOR_SOCKET"], made["CONDUCTOR_AGENT_ID"]) == ("/run/conductor/agent.sock", "agent-1")
    assert (made["CONDUCTOR_TASK_ID"], made["TRACEPARENT"], made["LANG"], made["MINE"]) == ("task_1", "00-x", "de_DE", "1")
    assert "CONDUCTOR_TASK_ID" not in environment("agent-1", "", "", {})

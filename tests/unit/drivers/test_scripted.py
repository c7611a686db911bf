"""The scripted agent, run as a real process by the Python of these tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent_sidecar.drivers.driver import Answer, TaskOrder
from agent_sidecar.drivers.scripted import PROGRAM, ScriptedDriver
from agent_sidecar.drivers.toolchain import Toolchain

PYTHON = Toolchain(program=Path(sys.executable), folders=(Path("/opt/python"),))


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ScriptedDriver(PYTHON).command(TaskOrder(task_id="task_1", type="test", prompt=script))
    return subprocess.run(
        command.argv, input=command.stdin.decode(), cwd=folder, env={}, capture_output=True, text=True, timeout=30, check=False
    )


def started(script: str) -> subprocess.Popen[str]:
    command = ScriptedDriver(PYTHON).command(TaskOrder(task_id="task_1", type="test", prompt=script))
    process = subprocess.Popen(command.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(script)
    process.stdin.close()
    return process


def test_it_needs_the_interpreter_and_its_own_folder_only():
    command = ScriptedDriver(PYTHON).command(TaskOrder(task_id="task_1", type="test", prompt="print a"))

    assert command.toolchains == tuple(sorted((PROGRAM.parent, Path("/opt/python"))))
    assert command.argv[0] == sys.executable
    assert command.stdin == b"print a"


def test_it_writes_appends_reads_and_says_what_it_did(tmp_path: Path):
    done = run("# a comment\n\nprint hello  there\nwrite a/b.txt one\nappend a/b.txt two words\nread a/b.txt", tmp_path)

    assert done.stdout.splitlines() == ["hello  there", "wrote a/b.txt", "appended to a/b.txt", "one", "two words"]
    assert (tmp_path / "a/b.txt").read_text() == "one\ntwo words\n"
    assert done.returncode == 0


def test_its_last_output_is_its_answer(tmp_path: Path):
    parser = ScriptedDriver(PYTHON).parser()
    parser.feed(run("print done", tmp_path).stdout.encode())

    assert parser.finish() == (b"", [Answer("done")])


def test_it_ends_with_the_code_it_is_told(tmp_path: Path):
    assert run("exit 7\nprint never", tmp_path).returncode == 7


@pytest.mark.parametrize(
    "line", ["dance", "sleep long", "sleep -1", "sleep nan", "sleep inf", "exit 1.5", "write", "probe moon", "allocate"]
)
def test_a_step_it_does_not_know_ends_it_with_2_before_anything_ran(line: str, tmp_path: Path):
    done = run(f"write first.txt x\n{line}", tmp_path)

    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert not (tmp_path / "first.txt").exists()


def test_a_step_that_fails_ends_it_with_1(tmp_path: Path):
    done = run("read nothing.txt\nprint never", tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing.txt" in done.stderr


def test_a_crash_is_a_memory_fault_without_a_core_file(tmp_path: Path):
    done = run("crash", tmp_path)

    assert done.returncode == -signal.SIGSEGV
    assert list(tmp_path.iterdir()) == []


def test_it_sleeps_spins_and_allocates(tmp_path: Path):
    done = run("sleep 0.01\nspin 0.01\nallocate 3", tmp_path)

    assert done.stdout.splitlines() == ["slept 0.01 s", "spun 0.01 s", "allocated 3 MiB"]


def test_more_memory_than_there_is_ends_it_with_1(tmp_path: Path):
    done = run("allocate 999999999", tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert "out of memory" in done.stderr


def test_it_hangs_until_it_is_killed_when_it_ignores_term():
    process = started("ignore-term\nhang")
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ignoring SIGTERM\n", "hanging\n"]
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    finally:
        process.kill()
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()


def test_processes_it_forks_outlive_it():
    process = started("fork 3")
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "forked 3 of 3\n"
        assert process.wait(10) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout.read() == ""
    process.stdout.close()


def test_the_network_probe_names_the_interfaces(tmp_path: Path):
    line = run("probe network", tmp_path).stdout

    assert line.startswith(("network: reachable, interfaces: ", "network: unreachable ("))
    assert "lo" in line


def test_the_home_probe_sees_files_and_their_absence(tmp_path: Path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "diary.txt").touch()

    assert run(f"probe home {empty}", tmp_path).stdout == "home: hidden\n"
    assert run(f"probe home {full}", tmp_path).stdout == f"home: visible ({full}/diary.txt)\n"
    assert run("probe home /nonexistent", tmp_path).stdout == "home: hidden\n"

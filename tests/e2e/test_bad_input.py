"""What goes wrong is said clearly: what happened, what to do next, and the documented exit code."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Installation, need_strict

pytestmark = pytest.mark.timeout(120)


def test_what_is_not_there_is_not_found(installation: Installation):
    installation.start(num_agents=1)

    for command in (
        ("tasks", "show", "task_" + "0" * 32),
        ("agents", "inspect", "nobody"),
        ("messages", "show", "msg_" + "0" * 32),
    ):
        done = installation.run(*command, check=False)
        assert done.returncode == 3, (command, done.stdout, done.stderr)
        assert "conductor" in done.stderr  # what to do next
    unknown = installation.run("messages", "send", "nobody", "hello", check=False)
    assert unknown.returncode == 3, unknown.stderr
    assert "agents list" in unknown.stderr


def test_an_oversize_message_is_refused_with_the_way_out(installation: Installation):
    installation.start(num_agents=1, limits={"payload_bytes": "1k"})
    big = installation.home.parent / "big"
    big.write_text("x" * 5000)

    done = installation.run("messages", "send", "agent-1", "--file", str(big), check=False)
    assert done.returncode == 1, done.stderr
    assert "artefact" in done.stderr


def test_a_misspelt_key_is_named_with_file_line_and_nearest_key(installation: Installation):
    path = installation.home.parent / "bad.yaml"
    path.write_text("num_agents: 1\ncontainer_config:\n  memory_limt: 1g\n")

    done = installation.run("start", "--config", str(path), check=False)
    assert done.returncode == 2
    for word in ("memory_limt", str(path), "3", "memory_limit"):
        assert word in done.stderr.replace("\n", ""), done.stderr


def test_a_home_that_cannot_be_written_is_said_so(installation: Installation):
    (installation.home.parent / "file").write_text("")
    installation.environment["CONDUCTOR_HOME"] = str(installation.home.parent / "file" / "home")

    done = installation.run("start", check=False)
    assert done.returncode == 1, done.stderr
    assert "CONDUCTOR_HOME" in done.stderr
    installation.environment["CONDUCTOR_HOME"] = str(installation.home)


def test_a_home_whose_sockets_would_be_too_long_is_refused_with_advice(installation: Installation):
    long = installation.home.parent / ("x" * 100)
    installation.environment["CONDUCTOR_HOME"] = str(long)

    done = installation.run("start", check=False)
    assert done.returncode == 2, done.stderr
    assert "107" in done.stderr
    assert "shorter" in done.stderr
    installation.environment["CONDUCTOR_HOME"] = str(installation.home)


def test_a_socket_in_use_is_not_taken_away(installation: Installation):
    run = installation.home / "run"
    run.mkdir(parents=True, mode=0o700)
    installation.home.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(run / "control.sock"))
        other.listen()

        done = installation.run("start", "--config", str(installation.configure(num_agents=1)), check=False)
        assert done.returncode != 0
        assert "control.sock" in done.stderr.replace("\n", "")
        assert (run / "control.sock").is_socket()
    (run / "control.sock").unlink()


def test_without_a_running_set_every_command_says_how_to_start_one(installation: Installation):
    for command in (("status",), ("tasks", "list"), ("agents", "list"), ("stop",), ("messages", "list")):
        done = installation.run(*command, check=False)
        assert done.returncode == 5, (command, done.stderr)
        assert "conductor start" in done.stderr.replace("\n", " ")


def test_an_empty_import_shows_the_right_call(installation: Installation):
    done = installation.run("config", "import", check=False, stdin="")

    assert done.returncode == 2
    assert "conductor config import <" in done.stderr.replace("\n", " ")


def test_strict_is_refused_with_the_command_that_helps_when_bubblewrap_cannot_be_used(installation: Installation, place: Path):
    # A bubblewrap that cannot make namespaces is what hosts with an AppArmor restriction look like.
    broken = place / "bin"
    broken.mkdir()
    (broken / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    (broken / "bwrap").chmod(0o755)
    installation.environment["PATH"] = f"{broken}:{installation.environment['PATH']}"
    installation.environment["CONDUCTOR_BUBBLEWRAP"] = str(broken / "bwrap")

    done = installation.run("start", "--config", str(installation.configure(num_agents=1)), check=False)
    assert done.returncode == 1, done.stdout
    assert "strict" in done.stderr
    assert "Permission denied" in done.stderr
    assert not (installation.home / "run/control.sock").exists()


def test_a_foreign_conductor_on_path_is_pointed_out(installation: Installation, place: Path):
    foreign = place / "bin"
    foreign.mkdir()
    (foreign / "conductor").write_text("#!/bin/sh\n")
    (foreign / "conductor").chmod(0o755)
    installation.environment["PATH"] = f"{foreign}:{installation.environment['PATH']}"

    need_strict()
    done = installation.run("start", "--config", str(installation.configure(num_agents=1)))
    assert str(foreign / "conductor") in done.stderr.replace("\n", "")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small tmpfs as home")
def test_a_full_disk_loses_nothing_that_was_accepted(installation: Installation, place: Path):
    installation.home.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(installation.home)], check=True)
    try:
        installation.start(num_agents=1)
        accepted = [installation.run("tasks", "submit", "--agent", "command", "--cmd", "true", "-o", "name").stdout.strip()]
        filler = installation.home / "filler"
        fill(filler)
        refused = installation.run("tasks", "submit", "--agent", "command", "--cmd", "echo " + "y" * 100_000, check=False)
        assert refused.returncode == 5, refused.stderr
        assert "disk" in refused.stderr
        filler.unlink()
        accepted.append(installation.run("tasks", "submit", "--agent", "command", "--cmd", "true", "-o", "name").stdout.strip())
        for task in accepted:
            installation.run("tasks", "show", task)
        installation.run("stop")
    finally:
        installation.run("stop", check=False)
        subprocess.run(["umount", "-l", str(installation.home)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 4096):
            continue

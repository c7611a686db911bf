"""Patches of real agents land on a branch, one by one, each checked in a strict sandbox; nothing of the user's moves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import CONDUCTOR, Installation, eventually, git

pytestmark = pytest.mark.timeout(240)
CHECK = "sh check.sh"


def prepared(repository: Path) -> None:
    (repository / "check.sh").write_text('echo "lines: $(cat *.txt | wc -l)"\n[ "$(cat *.txt | sort | uniq -d)" = "" ]\n')
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "check")


def done(installation: Installation, repository: Path, *lines: str) -> list[str]:
    made = [
        installation.run("run", "--cmd", line, "--repo", str(repository), "-o", "name", timeout=90).stdout.strip()
        for line in lines
    ]
    assert all(name.startswith("task_") for name in made)
    return made


def test_patches_land_one_by_one_and_survive_kills_of_driver_and_control_plane(installation: Installation, repository: Path):
    installation.start()
    prepared(repository)
    before = git(repository, "rev-parse", "HEAD") + git(repository, "status", "--porcelain")
    tasks = done(
        installation,
        repository,
        "echo one > one.txt",
        "echo one > two.txt",  # the check: no line twice
        "echo three >> hello.txt",
        "echo four >> hello.txt",  # the same place
    )
    words = ("merge", "run", "--all", "--repo", str(repository), "--onto", "agents", "--check", CHECK)

    driver = subprocess.Popen(
        [CONDUCTOR, *words], env=installation.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    eventually(lambda: git(repository, "branch", "--list", "agents").strip(), 60, "the first landing")
    driver.kill()
    driver.wait()
    (control_plane,) = installation.processes("controlplane")[:1]
    os.kill(control_plane.pid, signal.SIGKILL)
    eventually(lambda: installation.run("status", check=False).returncode == 0, 30, "the control plane")
    told = installation.run(*words, check=False, timeout=120)

    assert told.returncode == 1, told.stderr + told.stdout
    shown = [json.loads(installation.run("tasks", "show", task, "-o", "json").stdout) for task in tasks]
    states = [each["landing"]["state"].removeprefix("LANDING_STATE_") for each in shown]
    assert states == ["LANDED", "EVICTED", "LANDED", "EVICTED"], told.stdout
    assert "lines: 3" in shown[1]["landing"]["output"]
    assert "CONFLICT" in shown[3]["landing"]["output"]
    check = json.loads(installation.run("tasks", "show", shown[1]["landing"]["check_task_id"], "-o", "json").stdout)
    assert check["result"]["isolation"]["effective_level"] == "ISOLATION_LEVEL_STRICT"
    commits = git(repository, "rev-list", "main..agents").split()
    assert len(commits) == 2
    for commit in commits:
        checkout = repository.parent / commit
        git(repository, "worktree", "add", "-q", "--detach", str(checkout), commit)
        subprocess.run(["sh", "check.sh"], cwd=checkout, check=True, capture_output=True)
        git(repository, "worktree", "remove", "--force", str(checkout))
    assert git(repository, "rev-parse", "HEAD") + git(repository, "status", "--porcelain") == before

    installation.run("merge", "retry", tasks[1])
    again = installation.run(*words, "--wait", check=False, timeout=120)
    assert again.returncode == 1  # the same command writes the same line again: the check knows
    events = installation.run("events", "--type", "task.evicted").stdout.splitlines()
    assert len(events) == 3, events

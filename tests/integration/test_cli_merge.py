"""`conductor merge` as a process of its own: what a user sees, wrong words first, and what a kill -9 leaves (nothing)."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_conductor.cli.merge_queue import CHECK_LABEL, RETRY_LABEL
from claude_conductor.v1 import agent_pb2, task_pb2, task_service_pb2
from tests.fakes.merging import handed_in
from tests.fakes.operator_services import World, now
from tests.fakes.repository import git, make_repository
from tests.integration import test_cli_commands as commands
from tests.integration.test_cli_commands import CommandLine

pytestmark = pytest.mark.timeout(180)
place, conductor, world = commands.place, commands.conductor, commands.world


@pytest.fixture
def repo(place: Path) -> Path:
    make_repository(place / "repo")
    return place / "repo"


def files(**contents: str) -> Callable[[Path], None]:
    def work(clone: Path) -> None:
        for name, text in contents.items():
            (clone / name).write_text(text)

    return work


def hand_in(world: World, repo: Path, *works: Callable[[Path], None], **spec: object) -> list[str]:
    """Give the control plane finished tasks, and let the checks it is given be run on this host."""
    ids = []
    for work in works:
        task, patch = handed_in(repo, len(world.tasks) + 1, work, **spec)
        task.create_time.CopyFrom(now())
        world.tasks[task.task_id] = task
        world.artefacts[task.result.patch_artefact_id] = patch
        world.submitted.append(task_service_pb2.SubmitTaskRequest(spec=task.spec))
        ids.append(task.task_id)

    def check(task: task_pb2.Task) -> None:
        names = git(repo, "ls-tree", "--name-only", task.spec.labels[CHECK_LABEL]).split()
        assert task.spec.workspace.git.ref == task.spec.labels[CHECK_LABEL]
        task.version += 1
        task.state = task_pb2.TASK_STATE_SUCCEEDED if not {"left", "right"} <= set(names) else task_pb2.TASK_STATE_DEAD
        if task.state == task_pb2.TASK_STATE_DEAD:
            task.result.failure.kind = task_pb2.FAILURE_KIND_EXIT_CODE
            task.result.failure.message = "exit code 1"

    world.finish = check
    world.output = [("stdout", b"left and \x1b[31mright do not go together\n")]
    return ids


def test_wrong_words_are_told_before_anything_happens(conductor: CommandLine, world: World, repo: Path):
    (task,) = hand_in(world, repo, files(b="1\n"))
    here = ("--repo", str(repo))
    check = ("--check", "true")
    for words, told in (
        ((task, *here, "--onto", "agents"), "--check"),
        ((task, *here, *check), "--onto"),
        ((*here, *check, "--onto", "agents"), "--all"),
        ((task, "--all", *here, *check, "--onto", "agents"), "exclude"),
        ((task, *here, *check, "--onto", "agents", "--level", "none"), "strict"),
        ((task, *here, *check, "--onto", "agents", "--timeout", "soon"), "--timeout"),
    ):
        assert told in conductor("merge", "run", *words, code=2).stderr
    for words, told in (
        ((task, *here, *check, "--onto", "main"), "checked out"),
        ((task, *here, *check, "--onto", "a..b"), "name of a branch"),
        ((task, *here, *check, "--onto", "agents", "--from", "nope"), "--from"),
        ((task, "--repo", str(repo.parent), *check, "--onto", "agents"), "no git repository"),
    ):
        done = conductor("merge", "run", *words, code=1)
        assert told in done.stderr
        assert "next: " in done.stderr
    assert conductor("merge", "run", "task_none", *here, *check, "--onto", "agents", code=3)
    make_repository(repo.parent / "other")
    (repo.parent / "other/b.txt").write_text("")
    git(repo.parent / "other", "add", "-A")
    git(repo.parent / "other", "commit", "-qm", "other")
    (stranger,) = hand_in(world, repo.parent / "other", files(c="1\n"))
    assert "--repo" in conductor("merge", "run", stranger, *here, *check, "--onto", "agents", code=1).stderr
    assert "nobody tried" in conductor("merge", "retry", task, code=1).stderr
    assert len(world.submitted) == 2  # what was handed in
    assert git(repo, "branch", "--list", "agents") == ""


def test_patches_land_or_are_evicted_and_every_view_says_so(conductor: CommandLine, world: World, repo: Path):
    first, second, third = hand_in(world, repo, files(left=""), files(right=""), files(c="3\n"))
    words = ("--all", "--repo", str(repo), "--onto", "agents", "--check", "make test")

    done = conductor("merge", "run", *words, code=1)

    assert [line.partition(": ")[0] for line in done.stdout.splitlines()][:3] == [
        f"{first} landed",
        f"{second} evicted",
        f"{third} landed",
    ]
    assert "2 landed, 1 evicted" in done.stdout
    assert f"conductor merge retry {second}" in done.stderr
    checks = [each.spec for each in world.submitted if CHECK_LABEL in each.spec.labels]
    assert len(checks) == 3  # of each patch; the branch without the second is known to pass
    assert {tuple(spec.command) for spec in checks} == {("/bin/sh", "-c", "make test")}
    assert {spec.isolation.level for spec in checks} == {agent_pb2.ISOLATION_LEVEL_STRICT}
    shown = conductor("tasks", "show", second).stdout
    assert "right do not go together" in shown
    assert "merge retry" in shown
    assert "as " in conductor("why", first).stdout
    assert "evicted: agents fails its check with it" in conductor("why", second).stdout
    told = json.loads(conductor("merge", "status", "--repo", str(repo), "--onto", "agents", "-o", "json").stdout)
    assert [row["standing"].split()[0] for row in told] == ["landed", "evicted", "landed"]

    told = conductor("report", "--since", "2023-01-01").stdout
    assert f"Landed:\n  {third}  agents: do 3\n  {first}" in told
    assert f"Evicted:\n  {second}  agents fails its check" in told
    assert told.count("conductor tasks apply") == 1


def test_what_was_evicted_is_done_again_in_its_place(conductor: CommandLine, world: World, repo: Path):
    _, second, _ = hand_in(world, repo, files(left=""), files(right=""), files(c="3\n"))
    words = ("--all", "--repo", str(repo), "--onto", "agents", "--check", "make test")
    conductor("merge", "run", *words, code=1)

    again = conductor("merge", "retry", second).stdout.split()[0]
    assert conductor("merge", "retry", second).stdout.split()[0] == again
    assert "Evicted" not in conductor("report", "--since", "2023-01-01").stdout
    spec = world.tasks[again].spec
    assert spec.workspace.git.ref == git(repo, "rev-parse", "agents")
    assert spec.labels[RETRY_LABEL] == second
    assert spec.prompt.startswith("do 2\n\n")
    assert "\n| left and " in spec.prompt
    assert "\x1b" not in spec.prompt
    assert "not ended yet" in conductor("merge", "run", *words).stderr

    redone, patch = handed_in(repo, 99, files(d="4\n"))
    world.artefacts["art_99"] = patch
    world.tasks[again].state = task_pb2.TASK_STATE_SUCCEEDED
    world.tasks[again].result.CopyFrom(redone.result)
    assert "1 landed, 0 evicted" in conductor("merge", "run", second, *words[1:]).stdout
    assert git(repo, "log", "--format=%s", "main..agents").splitlines()[0].startswith("do 2")


def test_the_patches_of_a_file_land_in_its_order(conductor: CommandLine, world: World, repo: Path, place: Path):
    hand_in(world, repo)
    check, works = world.finish, {"one": files(left=""), "two": files(right="")}

    def finish(task: task_pb2.Task) -> None:
        if CHECK_LABEL in task.spec.labels:
            check(task)
        elif task.state != task_pb2.TASK_STATE_SUCCEEDED:
            made, patch = handed_in(repo, len(world.artefacts) + 50, works[task.spec.prompt])
            world.artefacts[made.result.patch_artefact_id] = patch
            task.state, task.version = made.state, task.version + 1
            task.result.CopyFrom(made.result)
            task.end_time.CopyFrom(made.end_time)

    world.finish = finish
    path = place / "tasks.yaml"
    path.write_text(
        f"merge: {{onto: agents, check: make test}}\ndefaults: {{agent: scripted, repo: {repo}}}\n"
        "tasks: [{prompt: one, name: b}, {prompt: two, after: b}]\n"
    )
    assert "conductor apply" in conductor("run", "-f", str(path), code=2).stderr
    git(repo, "worktree", "add", "-q", "-b", "agents", str(place / "tree"))
    assert "checked out" in conductor("apply", "-f", str(path), "--wait", code=1).stderr
    assert not world.submitted
    git(repo, "worktree", "remove", str(place / "tree"))
    assert "--wait lands" in conductor("apply", "-f", str(path)).stderr
    for _ in range(2):  # the same again is the same
        done = conductor("apply", "-f", str(path), "--wait", code=1)
        assert "1 evicted" in done.stdout
        assert git(repo, "log", "--format=%s", "main..agents").splitlines() == ["one"]


def test_a_killed_driver_is_gone_on_with_and_the_branch_is_the_same(
    conductor: CommandLine, world: World, repo: Path, place: Path
):
    """A `git` before git's kills the command line at its n-th command, before or after it is carried out."""
    names = hand_in(world, repo, files(left=""), files(right=""), files(c="3\n"))
    real = subprocess.run(["which", "git"], check=True, capture_output=True, text=True).stdout.strip()
    trap = place / "bin/git"
    trap.parent.mkdir()
    trap.write_text(
        f"""#!/bin/sh
case "$* " in *" $KILL_AT "*) if [ ! -e {place}/killed ]; then
    touch {place}/killed
    [ "$KILL_WHEN" = before ] || {real} "$@"
    kill -9 $PPID; exit 1
fi;; esac
exec {real} "$@"
"""
    )
    trap.chmod(0o755)
    words = ("merge", "run", *names, "--repo", str(repo), "--check", "make test", "--onto")
    conductor(*words, "unbroken", code=1)
    wanted = git(repo, "rev-parse", "unbroken")
    recorded = [(world.tasks[name].landing.state, world.tasks[name].landing.commit) for name in names]
    conductor.environment["PATH"] = f"{trap.parent}:{conductor.environment['PATH']}"
    for at, when in (("commit-tree", "after"), ("merge-tree", "before"), ("update-ref", "before"), ("update-ref", "after")):
        git(repo, "update-ref", "-d", "refs/heads/agents")
        (place / "killed").unlink(missing_ok=True)
        for name in names:
            world.tasks[name].ClearField("landing")
        conductor.environment |= {"KILL_AT": at, "KILL_WHEN": when}

        with conductor.start(*words, "agents") as driver:
            driver.communicate(timeout=50)
        assert driver.returncode == -signal.SIGKILL
        conductor(*words, "agents", code=1)

        assert (place / "killed").exists()
        assert git(repo, "rev-parse", "agents") == wanted, (at, when)
        assert [(world.tasks[name].landing.state, world.tasks[name].landing.commit) for name in names] == recorded

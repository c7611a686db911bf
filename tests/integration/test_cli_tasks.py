"""What a user does with tasks and results, from the command line as a process of its own: compare, take along, apply, report."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from claude_conductor import errors
from claude_conductor.v1 import task_pb2
from tests.fakes.operator_services import World
from tests.fakes.repository import git
from tests.integration import test_cli_commands as commands
from tests.integration.test_cli_commands import CommandLine

pytestmark = pytest.mark.timeout(180)
place, conductor, world = commands.place, commands.conductor, commands.world


def test_attempts_are_compared_side_by_side(conductor: CommandLine, world: World):
    world.artefacts["art_patch"] = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    first, second = conductor("run", "x", "--agent", "scripted", "-n", "2", "-o", "name").stdout.split()

    told = conductor("tasks", "compare", first, second).stdout

    assert first in told.splitlines()[0]
    assert "(identical)" in told
    assert "1 file was changed by more than one" in told
    assert [
        each["files"][0]["path"] for each in json.loads(conductor("tasks", "compare", first, second, "-o", "json").stdout)
    ] == [
        "x",
        "x",
    ]


def test_changes_that_are_not_committed_go_along_if_asked_for(conductor: CommandLine, world: World, place: Path):
    repo = place / "repo"

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(repo), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    repo.mkdir()
    git("init", "-q", "-b", "main")
    (repo / "a").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    (repo / "a").write_text("2\n")
    (repo / "new").write_text("new\n")

    told = conductor("run", "x", "--agent", "scripted", "--repo", str(repo)).stderr
    assert "1 changed file is not committed" in told
    assert "--dirty" in told
    told = conductor("run", "x", "--agent", "scripted", "--repo", str(repo), "--dirty", "-n", "2").stderr
    assert "2 files not committed" in told
    plain, first, second = (each.spec.workspace.git.ref for each in world.submitted)
    assert (plain, first) == ("", second)
    assert git("show", f"{first}:a", f"{first}:new").split() == ["2", "new"]
    world.artefacts["art_patch"] = b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-2\n+3\n"
    task = list(world.tasks)[-1]
    world.tasks[task].result.base_commit = first
    assert "cherry-pick --no-commit" in conductor("tasks", "apply", task, "--branch", "agents").stderr
    git("checkout", "--", ".")
    (repo / "new").unlink()
    git("cherry-pick", "agents~1", "agents")
    assert (repo / "a").read_text() == "3\n"
    for wrong in (("--ref", "main"), ()):
        where = ("--repo", str(repo)) if wrong else ()
        assert "--dirty" in conductor("run", "x", "--agent", "scripted", *where, *wrong, "--dirty", code=2).stderr


def test_files_git_does_not_have_go_along_and_stay_out_of_the_branch(conductor: CommandLine, world: World, place: Path):
    repo = make_ignoring(place / "repo")
    told = conductor(
        "run", "x", "--agent", "scripted", "--repo", str(repo), "--copy", ".env", "--copy", "data", "--setup", "make"
    ).stderr
    assert "2 files copied along" in told
    assert "'.env' looks like a secret" in told
    begin = world.submitted[0].spec.workspace.git.ref
    assert git(repo, "show", f"{begin}:.env", f"{begin}:data/fixture") == "KEY=1\nfixture"
    assert git(repo, "rev-parse", f"{begin}^") == git(repo, "rev-parse", "HEAD")
    world.artefacts["art_patch"] = b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+3\n"
    task = list(world.tasks)[-1]
    world.tasks[task].result.base_commit = begin
    conductor("tasks", "apply", task, "--branch", "agents")
    assert git(repo, "show", "agents:a") == "3"
    assert git(repo, "ls-tree", "-r", "--name-only", "agents").split() == [".gitignore", "a"]
    (place / "t.yaml").write_text(f"tasks: [{{prompt: x, agent: scripted, repo: {repo}, copy: [.env]}}]")
    conductor("apply", "-f", str(place / "t.yaml"))
    assert git(repo, "show", f"{world.submitted[-1].spec.workspace.git.ref}:.env") == "KEY=1"
    assert "--repo" in conductor("run", "x", "--agent", "scripted", "--copy", ".env", code=2).stderr


def test_the_kept_workspace_of_a_task_is_named(conductor: CommandLine, world: World, place: Path):
    task = conductor("run", "x", "--agent", "scripted", "--keep-workspace", "-o", "name").stdout.strip()
    assert world.submitted[0].spec.keep_workspace
    assert "--keep-workspace" in conductor("tasks", "workspace", task, code=1).stderr
    world.tasks[task].result.workspace = str(place)
    done = conductor("tasks", "workspace", task)
    assert (done.stdout.strip(), done.stderr) == (str(place), "")
    assert str(place) in conductor("tasks", "show", task).stdout
    world.tasks[task].result.workspace = str(place / "gone")
    assert "no such folder here" in conductor("tasks", "workspace", task).stderr


def make_ignoring(repo: Path) -> Path:
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "a").write_text("1\n")
    (repo / ".gitignore").write_text(".env\ndata/\n")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "first")
    (repo / ".env").write_text("KEY=1\n")
    (repo / "data").mkdir()
    (repo / "data/fixture").write_text("fixture\n")
    return repo


def test_types_of_tasks_are_listed_and_shown(conductor: CommandLine, world: World):
    world.types = [
        task_pb2.TaskType(name="code_review", about="Reads \x1bcode", template="Look at {prompt}\n", max_attempts=2),
        task_pb2.TaskType(name="mine", file="/home/types/mine.md", problem="no place for the prompt"),
    ]
    world.types[0].timeout.FromSeconds(1800)

    told = conductor("types", "list").stdout
    assert "30m 0s" in told
    assert "cannot be used: no place for the prompt" in told
    told = conductor("types", "show", "Code-Review").stdout
    assert "Look at {prompt}" in told
    assert "built in" in told
    assert "did you mean code_review?" in conductor("types", "show", "code_revue", code=2).stderr
    assert conductor("types", "list", "-o", "name").stdout.split() == ["code_review", "mine"]


FILE = """
defaults: {agent: scripted}
tasks:
- {name: report, prompt: report, after: [left, right]}
- {name: left, prompt: left}
- {name: right, prompt: right, after: left}
"""


def test_tasks_of_a_file_are_submitted_in_their_order_and_once(conductor: CommandLine, world: World, place: Path):
    (place / "t.yaml").write_text(FILE)

    told = json.loads(conductor("apply", "-f", "t.yaml", "-o", "json").stdout)

    assert [each["name"] for each in told] == ["left", "right", "report"]
    left, right, report = (each["task_id"] for each in told)
    waits = [list(each.spec.depends_on) for each in world.submitted]
    assert waits == [[], [left], [left, right]]
    assert json.loads(conductor("apply", "-f", str(place / "t.yaml"), "-o", "json").stdout) == told
    assert json.loads(conductor("apply", "-f", "t.yaml", "--run", "2", "-o", "json").stdout)[0]["task_id"] not in (
        left,
        right,
        report,
    )
    assert len(world.submitted) == 6
    assert "report" in conductor("apply", "-f", "t.yaml").stdout
    told = conductor("apply", "-f", "-", "--wait", stdin=FILE).stdout
    assert told.count("succeeded on agent-1") == 3
    assert [line.split(":")[0] for line in told.splitlines() if "task_" in line and line[0] != " "] == ["left", "right", "report"]
    assert "report" in [each["name"] for each in json.loads(conductor("run", "-f", "t.yaml", "-o", "json").stdout)]


def test_tasks_of_a_file_are_submitted_together_or_not_at_all(conductor: CommandLine, world: World, place: Path):
    (place / "t.yaml").write_text(FILE)
    world.failures_of_submit = [errors.StoreUnavailableError("The disk is full.")]

    assert "The disk is full" in conductor("apply", "-f", "t.yaml", code=5).stderr
    assert not world.tasks
    conductor("apply", "-f", "t.yaml")

    assert [task.spec.prompt for task in world.tasks.values()] == ["left", "right", "report"]


def test_a_call_that_broke_off_between_two_requests_goes_on_where_it_was(conductor: CommandLine, world: World, place: Path):
    entries = [f"- {{name: t{number}}}" for number in range(12)]
    defaults = f"defaults: {{prompt: {'x' * 200_000}}}"  # one request has room for ten of them
    (place / "t.yaml").write_text("\n".join([defaults, "tasks:", *entries, "- {name: last, after: [t0, t11]}"]))
    world.failures_of_submit = [None, errors.StoreUnavailableError("The disk is full.")]

    told = conductor("apply", "-f", "t.yaml", code=5).stderr
    done = len(world.tasks)
    assert 0 < done < 13
    assert f"{done} of 13 tasks were submitted" in told
    conductor("apply", "-f", "t.yaml")

    tasks = list(world.tasks.values())
    assert len(tasks) == 13
    assert sorted(tasks[-1].spec.depends_on) == sorted([tasks[0].task_id, tasks[11].task_id])


def test_a_file_is_checked_as_a_whole_before_anything_is_submitted(conductor: CommandLine, world: World, place: Path):
    (place / "t.yaml").write_text(FILE.replace("prompt: report", "prompt: report, type: nonsense"))

    for verb in (("apply",), ("run",), ("apply", "--dry-run")):
        assert "task report would be refused" in conductor(*verb, "-f", "t.yaml", code=2).stderr
    assert not world.submitted
    (place / "t.yaml").write_text(FILE.replace("after: left", "after: lfet"))
    told = conductor("apply", "-f", "t.yaml", code=2).stderr
    assert "`left`" in told
    assert "t.yaml, line: 6" in told
    assert "tasks file cannot be read" in conductor("apply", "-f", "none.yaml", code=2).stderr
    (place / "t.yaml").write_text(FILE)
    assert "-n" in conductor("run", "-f", "t.yaml", "-n", "2", code=2).stderr


def test_a_dry_run_shows_the_plan_and_submits_nothing(conductor: CommandLine, world: World, place: Path):
    (place / "t.yaml").write_text(FILE)

    told = conductor("apply", "-f", "t.yaml", "--dry-run")

    assert [line.split()[0] for line in told.stdout.splitlines()] == ["NAME", "left", "right", "report"]
    assert "left, right" in told.stdout
    assert json.loads(conductor("apply", "-f", "t.yaml", "--dry-run", "-o", "json").stdout)[2]["after"] == ["left", "right"]
    assert not world.submitted


def test_a_report_and_the_usage_of_a_day(conductor: CommandLine, world: World):
    world.artefacts["art_patch"] = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    assert "no task was at work" in conductor("report").stdout
    first, second, old = conductor("run", "x", "--agent", "scripted", "-n", "3", "--label", "team=a", "-o", "name").stdout.split()
    world.tasks[old].end_time.FromSeconds(1_000_000)
    waiting = conductor("tasks", "submit", "still to do", "-o", "name").stdout.strip()

    told = conductor("report", "--since", "1h").stdout
    assert "ended:     2: 2 succeeded" in told
    assert "open:      1 queued" in told
    assert "x  2 tasks" in told
    assert f"conductor tasks apply {first}" in told
    assert old not in told
    whole = json.loads(conductor("report", "--since", "1970-01-02", "-o", "json").stdout)
    assert whole["ended"]["tasks"] == 3
    assert whole["shared_files"][""] == {"x": sorted((first, second, old))}
    assert conductor("report", "-o", "name").stdout.split() == [waiting, second, first]
    rows = json.loads(conductor("usage", "--by", "label:team", "-o", "json").stdout)
    assert [(row["label:team"], row["tasks"], row["cpu_seconds"]) for row in rows] == [("a", 2, 2.5), (None, 2, 2.5)]
    assert "2.5 s" in conductor("usage", "--by", "agent").stdout
    assert "label:NAME" in conductor("usage", "--by", "colour", code=2).stderr
    assert "yesterday" in conductor("report", "--since", "soon", code=2).stderr

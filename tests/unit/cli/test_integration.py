"""How one patch gets upon the head of a branch, with real git, and nothing of the user's changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_conductor.cli.integration import Candidate, Change, Integration, Misfit, Nothing
from claude_conductor.errors import WorkspaceError
from tests.fakes.merging import handed_in
from tests.fakes.repository import git, make_repository


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_repository(tmp_path / "repo")
    return tmp_path / "repo"


def written(name: str, text: str) -> Callable[[Path], None]:
    def work(clone: Path) -> None:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text)

    return work


def change(repo: Path, number: int, work: Callable[[Path], None], **more: object) -> Change:
    task, patch = handed_in(repo, number, work)
    given = {"subject": f"do {number}", "author": "agent-1", "time": 1_700_000_000 + number, **more}
    return Change(task.task_id, task.result.base_commit, patch, **given)  # type: ignore[arg-type]


def landed(branch: Integration, wanted: Change) -> str:
    built = branch.build(wanted, branch.head())
    assert isinstance(built, Candidate), built
    assert branch.land(built.commit, branch.head())
    return built.commit


def test_patches_land_one_upon_the_other_and_nothing_of_the_users_moves(repo: Path) -> None:
    (repo / "a.txt").write_text("one\nmine, not committed\n")
    before = git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD"), (repo / ".git/index").read_bytes()
    branch = Integration(str(repo), "agents")
    assert not branch.exists

    first = landed(branch, change(repo, 1, written("b.txt", "b\n")))
    second = landed(branch, change(repo, 2, written("c/d.txt", "d\n")))

    assert git(repo, "rev-parse", "agents", "agents~1", "agents~2").split() == [second, first, git(repo, "rev-parse", "main")]
    assert git(repo, "show", "agents:b.txt", "agents:c/d.txt").split() == ["b", "d"]
    assert git(repo, "show", "-s", "--format=%an <%ae> %s", "agents") == "agent-1 <agent-1@conductor.local> do 2"
    assert branch.landed(branch.head()) == {f"task_{1:032x}": first, f"task_{2:032x}": second}
    assert (git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD"), (repo / ".git/index").read_bytes()) == before
    git(repo, "fsck", "--strict")


def test_the_same_change_upon_the_same_commit_is_the_same_commit(repo: Path) -> None:
    branch, wanted = Integration(str(repo), "agents"), change(repo, 1, written("b.txt", "b\n"))
    assert branch.build(wanted, branch.head()) == branch.build(wanted, branch.head())


def test_a_conflict_is_handed_back_with_both_sides_and_lands_nothing(repo: Path) -> None:
    branch = Integration(str(repo), "agents")
    landed(branch, change(repo, 1, written("a.txt", "left\n")))
    built = branch.build(change(repo, 2, written("a.txt", "right\x1b[2J\n")), branch.head())
    assert isinstance(built, Misfit)
    assert "a.txt" in built.reason
    assert "CONFLICT" in built.output
    assert "+<<<<<<< landed before\n left\n+=======\n+right" in built.output
    assert ">>>>>>> this task" in built.output
    assert "\x1b" not in built.output


def test_what_the_branch_has_already_is_nothing(repo: Path) -> None:
    branch = Integration(str(repo), "agents")
    landed(branch, change(repo, 1, written("b.txt", "b\n")))
    assert isinstance(branch.build(change(repo, 2, written("b.txt", "b\n")), branch.head()), Nothing)
    assert isinstance(branch.build(change(repo, 3, lambda clone: None), branch.head()), Nothing)


def test_files_outside_of_the_write_set_do_not_land(repo: Path) -> None:
    branch = Integration(str(repo), "agents")
    wanted = change(repo, 1, written("b.txt", "b\n"), writes=("src/",))
    built = branch.build(wanted, branch.head())
    assert isinstance(built, Misfit)
    assert "outside of its write set (src/): b.txt" in built.reason
    assert isinstance(branch.build(change(repo, 2, written("src/b", "b\n"), writes=("src/",)), branch.head()), Candidate)


def test_binary_files_links_modes_and_deletions_land(repo: Path) -> None:
    def work(clone: Path) -> None:
        (clone / "x.bin").write_bytes(bytes(range(256)))
        (clone / "link").symlink_to("a.txt")
        (clone / "run.sh").write_text("#!/bin/sh\n")
        (clone / "run.sh").chmod(0o755)
        (clone / "a.txt").unlink()

    branch = Integration(str(repo), "agents")
    landed(branch, change(repo, 1, work))
    modes = {line.split("\t")[1]: line.split()[0] for line in git(repo, "ls-tree", "agents").splitlines()}
    assert modes == {"link": "120000", "run.sh": "100755", "x.bin": "100644"}


@pytest.mark.parametrize(
    "patch",
    [
        b"not a patch\n",
        b"diff --git a/../x b/../x\nnew file mode 100644\n--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n",
        b"diff --git a/.git/config b/.git/config\nnew file mode 100644\n--- /dev/null\n+++ b/.git/config\n@@ -0,0 +1 @@\n+x\n",
        b"diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-other\n+x\n",
    ],
)
def test_a_patch_that_git_refuses_is_evicted(repo: Path, patch: bytes) -> None:
    branch = Integration(str(repo), "agents")
    built = branch.build(Change("task_1", branch.head(), patch, "do", "agent-1", 1), branch.head())
    assert isinstance(built, Misfit)


def test_nothing_of_the_repository_or_of_the_patch_is_run(repo: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    script = f"#!/bin/sh\ntouch {trap}\nexit 1\n"
    for hook in ("reference-transaction", "post-commit", "pre-commit"):
        (repo / ".git/hooks" / hook).write_text(script)
        (repo / ".git/hooks" / hook).chmod(0o755)
    for name in ("clean", "smudge"):
        git(repo, "config", f"filter.trap.{name}", f"touch {trap}")
    git(repo, "config", "merge.trap.driver", f"touch {trap}")
    git(repo, "config", "core.fsmonitor", f"touch {trap}")
    branch = Integration(str(repo), "agents")

    def work(text: str) -> Callable[[Path], None]:
        def both(clone: Path) -> None:
            (clone / "a.txt").write_text(text)
            (clone / ".gitattributes").write_text("* filter=trap merge=trap\n")

        return both

    first, second = change(repo, 1, work("1\n")), change(repo, 2, work("2\n"))
    landed(branch, first)
    assert isinstance(branch.build(second, branch.head()), Misfit)
    assert not trap.exists()


def test_a_subject_cannot_pass_for_a_landing(repo: Path) -> None:
    branch = Integration(str(repo), "agents")
    wanted = change(repo, 1, written("b.txt", "b\n"), subject="x\n\nConductor-Task: task_2\n\nConductor-Task: task_3")
    commit = landed(branch, wanted)
    assert branch.landed(commit) == {f"task_{1:032x}": commit}


def test_a_branch_moves_only_from_where_it_was(repo: Path) -> None:
    branch = Integration(str(repo), "agents")
    head, wanted = branch.head(), change(repo, 1, written("b.txt", "b\n"))
    built = branch.build(wanted, head)
    assert isinstance(built, Candidate)
    landed(branch, change(repo, 2, written("c.txt", "c\n")))
    assert not branch.land(built.commit, head)
    git(repo, "branch", "-qD", "agents")
    git(repo, "branch", "agents", git(repo, "commit-tree", "-m", "other", "HEAD^{tree}"))
    assert not branch.land(built.commit, head)


def test_a_branch_that_is_checked_out_stays_where_it_is(repo: Path, tmp_path: Path) -> None:
    branch = Integration(str(repo), "main")
    with pytest.raises(WorkspaceError, match="checked out"), branch.held():
        pass
    git(repo, "worktree", "add", "-q", "-b", "agents", str(tmp_path / "elsewhere"))
    elsewhere = Integration(str(repo), "agents")
    with pytest.raises(WorkspaceError, match="checked out"):
        elsewhere.land(git(repo, "rev-parse", "HEAD"), git(repo, "rev-parse", "HEAD"))


def test_one_lands_at_a_time_and_the_end_of_a_process_lets_go(repo: Path) -> None:
    one, other = Integration(str(repo), "agents"), Integration(str(repo), "others")
    with one.held(), pytest.raises(WorkspaceError, match="Another"), other.held():
        pass
    with other.held():
        pass
    child = os.fork()
    if child == 0:
        one.held().__enter__()
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with one.held():
        pass


@pytest.mark.parametrize(
    ("branch", "start", "words"), [("a..b", "", "name of a branch"), ("-x", "", "name of a branch"), ("ok", "nope", "nope")]
)
def test_a_name_or_a_start_that_cannot_be_is_refused(repo: Path, branch: str, start: str, words: str) -> None:
    with pytest.raises(WorkspaceError, match=words):
        Integration(str(repo), branch, start)


def test_a_work_tree_of_a_repository_and_a_url_are_told_apart(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "tree"), "-b", "mine")
    branch = Integration(str(tmp_path / "tree"), "agents")
    landed(branch, change(repo, 1, written("b.txt", "b\n")))
    with branch.held():
        pass
    assert git(repo, "show", "agents:b.txt") == "b"
    with pytest.raises(WorkspaceError, match="on this machine"):
        Integration("https://example.invalid/x.git", "agents")

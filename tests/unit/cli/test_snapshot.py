"""Changes that are not committed become a commit a task can begin at, and the user's repository stays as it is."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from claude_conductor.cli import repository, snapshot
from claude_conductor.errors import WorkspaceError
from tests.fakes.repository import git


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for name in ("staged", "unstaged", "both", "gone", "gone-staged", "tool", "same"):
        (path / name).write_text(f"{name}\n")
    (path / ".gitignore").write_text("*.log\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    return path


def everything(path: Path) -> dict[str, str]:
    """What must not change: references, index, stash, working tree; objects may be added."""
    left = {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and not file.is_relative_to(path / ".git/objects")
    }
    return left | {"refs": git(path, "for-each-ref"), "reflog": git(path, "reflog", "--all")}


def make_dirty(repo: Path) -> None:
    (repo / "staged").write_text("staged, changed\n")
    (repo / "both").write_text("first\n")
    git(repo, "add", "staged", "both")
    (repo / "both").write_text("second\n")
    (repo / "unstaged").write_text("unstaged, changed\n")
    (repo / "gone").unlink()
    git(repo, "rm", "-q", "gone-staged")
    (repo / "tool").chmod(0o755)
    (repo / "folder").mkdir()
    (repo / "folder/new ü").write_text("new\n")
    (repo / "link").symlink_to("same")
    (repo / "debug.log").write_text("ignored\n")
    (repo / "planned").write_text("planned\n")
    git(repo, "add", "--intent-to-add", "planned")


def test_whatever_is_not_committed_and_not_ignored_is_in_the_commit(repo: Path):
    make_dirty(repo)

    taken = snapshot.take(str(repo / "folder"))

    assert taken.repository == str(repo)
    assert git(repo, "rev-parse", f"{taken.commit}^") == git(repo, "rev-parse", "HEAD")
    listed = git(repo, "-c", "core.quotePath=false", "diff", "--no-renames", "--name-status", "HEAD", taken.commit)
    assert dict(reversed(line.split("\t")) for line in listed.splitlines()) == {
        "staged": "M",
        "both": "M",
        "unstaged": "M",
        "gone": "D",
        "gone-staged": "D",
        "tool": "M",
        "folder/new ü": "A",
        "link": "A",
        "planned": "A",
    }
    assert taken.changed == 9
    assert git(repo, "show", f"{taken.commit}:both") == "second"
    assert git(repo, "ls-tree", taken.commit, "tool").startswith("100755")
    assert git(repo, "ls-tree", taken.commit, "link").startswith("120000")


def test_index_references_and_files_stay_as_they_are(repo: Path):
    make_dirty(repo)
    git(repo, "status")  # refreshes the index once, so that later looks do not
    before = everything(repo)

    snapshot.take(str(repo))

    assert everything(repo) == before


def test_a_linked_worktree_has_changes_of_its_own(repo: Path, tmp_path: Path):
    (repo / "same").write_text("of the first\n")
    git(repo, "worktree", "add", "-q", str(tmp_path / "second"))
    (tmp_path / "second/same").write_text("of the second\n")
    git(tmp_path / "second", "add", ".")
    (tmp_path / "second/new").write_text("new\n")

    taken = snapshot.take(str(tmp_path / "second"))

    assert git(tmp_path / "second", "diff", "--name-only", "HEAD", taken.commit).split() == ["new", "same"]
    assert git(repo, "show", f"{taken.commit}:same") == "of the second"


def test_what_a_sparse_checkout_leaves_out_is_not_deleted(repo: Path):
    (repo / "sub").mkdir()
    (repo / "sub/x").write_text("x\n")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "sub")
    git(repo, "sparse-checkout", "set", "--no-cone", "/*", "!/sub/")
    assert not (repo / "sub").exists()
    (repo / "same").write_text("changed\n")

    taken = snapshot.take(str(repo))

    assert git(repo, "diff", "--name-only", "HEAD", taken.commit) == "same"


def test_a_clean_tree_is_its_head(repo: Path):
    assert snapshot.take(str(repo)) == snapshot.Snapshot(str(repo), git(repo, "rev-parse", "HEAD"), 0, ())


def test_the_same_changes_are_the_same_commit(repo: Path, monkeypatch: pytest.MonkeyPatch):
    make_dirty(repo)
    first = snapshot.take(str(repo)).commit
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")

    assert snapshot.take(str(repo)).commit == first
    assert snapshot.is_one(str(repo), first)
    assert not snapshot.is_one(str(repo), "HEAD")


def test_no_hook_runs_and_no_identity_is_needed(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_dirty(repo)
    mark = tmp_path / "ran"
    for name in ("pre-commit", "post-index-change", "reference-transaction"):
        hook = repo / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    git(repo, "config", "user.useConfigOnly", "true")

    snapshot.take(str(repo))

    assert not mark.exists()


def test_a_repository_inside_that_is_no_submodule_is_left_out_and_named(repo: Path):
    (repo / "inner").mkdir()
    git(repo / "inner", "init", "-q")
    (repo / "inner/x").write_text("x\n")
    git(repo / "inner", "add", ".")
    git(repo / "inner", "commit", "-qm", "inner")
    (repo / "staged").write_text("changed\n")

    taken = snapshot.take(str(repo))

    assert taken.left_out == ("inner",)
    assert git(repo, "diff", "--name-only", "HEAD", taken.commit) == "staged"


def test_an_unfinished_merge_and_a_repository_elsewhere_are_refused(repo: Path):
    with pytest.raises(WorkspaceError, match="on this machine"):
        snapshot.take("https://example.org/x.git")
    git(repo, "checkout", "-qb", "other")
    (repo / "same").write_text("other\n")
    git(repo, "commit", "-qam", "other")
    git(repo, "checkout", "-q", "main")
    (repo / "same").write_text("main\n")
    git(repo, "commit", "-qam", "main")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "-q", "other")

    with pytest.raises(WorkspaceError, match="conflicts"):
        snapshot.take(str(repo))


def test_a_patch_on_a_snapshot_ends_on_a_branch_that_begins_there(repo: Path):
    make_dirty(repo)
    taken = snapshot.take(str(repo))
    patch = b"diff --git a/same b/same\n--- a/same\n+++ b/same\n@@ -1 +1 @@\n-same\n+agent's\n"

    repository.apply(str(repo), taken.commit, patch, "conductor/x", "message")

    assert git(repo, "rev-parse", "conductor/x^") == taken.commit
    assert git(repo, "diff", "--name-only", "conductor/x^", "conductor/x") == "same"

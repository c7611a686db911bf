"""A repository is checked before agents get it, and a patch ends on a branch without touching the working tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from claude_conductor.cli import repository
from claude_conductor.errors import WorkspaceError


def git(path: Path, *arguments: str) -> str:
    who = ("-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, "-C", str(path), *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    git(path, "config", "user.name", "T")
    git(path, "config", "user.email", "t@example.invalid")
    (path / "a.txt").write_text("one\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    return path


@pytest.fixture
def patch(repo: Path) -> bytes:
    (repo / "a.txt").write_text("one\ntwo\n")
    (repo / "new.bin").write_bytes(bytes(range(256)))
    git(repo, "add", "-A")
    made = subprocess.run(["git", "-C", str(repo), "diff", "--cached", "--binary"], check=True, capture_output=True).stdout
    git(repo, "reset", "-q", "--hard")
    return made


def test_a_folder_inside_stands_for_its_repository_and_changes_are_counted(repo: Path):
    (repo / "sub").mkdir()
    (repo / "a.txt").write_text("changed\n")

    assert repository.check(str(repo / "sub"), "main") == repository.Checked(str(repo), 1)
    assert repository.check("https://example.org/x.git", "") == repository.Checked("https://example.org/x.git", 0)


def test_what_is_no_repository_or_lacks_the_reference_is_refused(repo: Path, tmp_path: Path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    for path, ref, word in (
        (tmp_path / "none", "", "no such folder"),
        (tmp_path / "plain", "", "no git repository"),
        (tmp_path / "empty", "", "no commit"),
        (repo, "nope", "`nope`"),
        (repo, "--help", "`--help`"),
    ):
        with pytest.raises(WorkspaceError, match=word):
            repository.check(str(path), ref)


def test_a_patch_ends_on_a_branch_and_nothing_else_changes(repo: Path, patch: bytes):
    head = git(repo, "rev-parse", "HEAD")
    (repo / "a.txt").write_text("my own work\n")
    before = git(repo, "status", "--porcelain")

    commit = repository.apply(str(repo), head, patch, "conductor/x", "message")

    assert git(repo, "rev-parse", "conductor/x", "conductor/x^").split() == [commit, head]
    assert git(repo, "show", "conductor/x:a.txt") == "one\ntwo"
    assert git(repo, "rev-parse", "HEAD") == head
    assert git(repo, "status", "--porcelain") == before
    assert git(repo, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert not list((repo / ".git").glob("conductor-index*"))


def test_a_patch_that_does_not_fit_or_a_branch_that_is_there_changes_nothing(repo: Path, patch: bytes):
    head = git(repo, "rev-parse", "HEAD")
    branches = git(repo, "branch", "--list")

    with pytest.raises(WorkspaceError, match="refused"):
        repository.apply(str(repo), head, b"not a patch\n", "conductor/x", "message")
    with pytest.raises(WorkspaceError, match="there already"):
        repository.apply(str(repo), head, patch, "main", "message")

    assert git(repo, "branch", "--list") == branches


def test_hooks_of_the_repository_do_not_run(repo: Path, patch: bytes, tmp_path: Path):
    mark = tmp_path / "ran"
    for name in ("reference-transaction", "post-index-change", "pre-commit"):
        hook = repo / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)

    repository.apply(str(repo), git(repo, "rev-parse", "main"), patch, "conductor/x", "message")

    assert not mark.exists()

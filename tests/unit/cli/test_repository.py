"""A repository is checked before agents get it, and a patch ends on a branch without touching the working tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from claude_conductor.cli import repository
from claude_conductor.errors import WorkspaceError
from tests.fakes.repository import git


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


def added(path: str, mode: str = "100644", content: str = "x") -> bytes:
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\nindex 0000000..1111111\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1 @@\n+{content}\n"
    ).encode()


@pytest.mark.parametrize(
    "hostile",
    [
        added("../outside"),
        added("/etc/outside"),
        added("sub/../../outside"),
        added(".git/hooks/post-checkout", "100755"),
        added(".GIT/config"),
        added("sub/.git/config"),
        added("git~1/config"),
        added(".g\u200cit/config"),
        added("way", "120000", "/tmp") + added("way/through"),
    ],
)
def test_a_patch_that_leads_outside_or_into_git_is_refused(repo: Path, hostile: bytes):
    head = git(repo, "rev-parse", "HEAD")

    with pytest.raises(WorkspaceError, match="refused"):
        repository.apply(str(repo), head, hostile, "conductor/x", "message")

    assert git(repo, "branch", "--list", "conductor/*") == ""
    assert git(repo, "status", "--porcelain") == ""


def test_a_link_that_is_there_leads_a_patch_nowhere(repo: Path, tmp_path: Path):
    (repo / "way").symlink_to(tmp_path)
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "link")

    with pytest.raises(WorkspaceError, match="refused"):
        repository.apply(str(repo), git(repo, "rev-parse", "HEAD"), added("way/through"), "conductor/x", "message")

    assert not (tmp_path / "through").exists()


def test_a_base_that_is_not_here_a_bad_name_and_a_name_in_the_way_are_told_apart(repo: Path, patch: bytes):
    head = git(repo, "rev-parse", "HEAD")
    git(repo, "branch", "conductor")
    for commit, branch, word in (
        ("1" * 40, "x", "is not in this repository"),
        ("", "x", "is not in this repository"),
        (head, "a..b", "name of a branch"),
        (head, "-d", "name of a branch"),
        (head, "conductor/x", "could not make the branch"),
    ):
        with pytest.raises(WorkspaceError, match=word):
            repository.apply(str(repo), commit, patch, branch, "message")

    assert git(repo, "branch", "--list", "--format=%(refname:short)").split() == ["conductor", "main"]


def test_variables_of_another_repository_and_a_missing_identity_do_no_harm(
    repo: Path, patch: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", "--bare", str(other))
    for name, value in (("GIT_DIR", str(other)), ("GIT_INDEX_FILE", str(tmp_path / "index")), ("HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    config = repo / ".git/config"
    config.write_text(config.read_text().replace("name = T", "useConfigOnly = true").replace("email = t@example.invalid", ""))

    commit = repository.apply(str(repo), "main", patch, "conductor/x", "message")

    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert git(repo, "log", "-1", "--format=%an %H", "conductor/x") == f"Conductor {commit}"
    assert not (tmp_path / "index").exists()

"""Files that git does not have become part of the commit a task begins at, and nothing from outside of the repository does."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_conductor.cli import copies, snapshot
from claude_conductor.errors import ConductorError, InvalidArgumentError
from tests.fakes.repository import git


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    (path / "sub").mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    (path / "a").write_text("a\n")
    (path / "sub/b").write_text("b\n")
    (path / ".gitignore").write_text("data/\n.env*\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    (path / "data/deep").mkdir(parents=True)
    (path / "data/one").write_text("1\n")
    (path / "data/deep/two").write_text("2\n")
    (path / "data/link").symlink_to("/etc")
    (path / ".env.example").write_text("KEY=\n")
    (path / "sub/new").write_text("new\n")
    (tmp_path / "outside").write_text("secret\n")
    return path


def listed(repo: Path, commit: str) -> list[str]:
    return git(repo, "diff", "--name-only", "HEAD", commit).splitlines()


def test_ignored_and_new_files_go_along_and_nothing_else_changes(repo: Path):
    (repo / "a").write_text("changed\n")
    before = git(repo, "status", "--porcelain", "--ignored")

    added = copies.add(str(repo), "", ["data/", ".env.example", "data/one"])

    assert (added.files, added.secrets) == (4, ())
    assert listed(repo, added.commit) == [".env.example", "data/deep/two", "data/link", "data/one"]
    assert git(repo, "ls-tree", added.commit, "data/link").startswith("120000")
    assert git(repo, "status", "--porcelain", "--ignored") == before
    assert copies.add(str(repo), "", [".env.example", "data"]) == added
    assert copies.below(str(repo), added.commit) == git(repo, "rev-parse", "HEAD")
    assert copies.below(str(repo), "HEAD") == "HEAD"


def test_paths_begin_at_the_folder_that_was_named(repo: Path):
    assert listed(repo, copies.add(str(repo / "sub"), "", ["new", "../data/one"]).commit) == ["data/one", "sub/new"]


def test_they_go_on_top_of_uncommitted_changes_and_of_a_ref(repo: Path):
    (repo / "a").write_text("changed\n")
    dirty = snapshot.take(str(repo)).commit
    added = copies.add(str(repo), dirty, ["data/one"])
    assert copies.below(str(repo), added.commit) == dirty
    assert git(repo, "show", f"{added.commit}:a") == "changed"
    git(repo, "tag", "v1")
    git(repo, "commit", "-qam", "second")
    assert git(repo, "rev-parse", f"{copies.add(str(repo), 'v1', ['data/one']).commit}^") == git(repo, "rev-parse", "v1")


@pytest.mark.parametrize(
    "path",
    ["../outside", "/etc/passwd", "", ".", "missing", "data/../../outside", ".git/config", "data/link/passwd", "inner", "empty"],
)
def test_what_leads_outside_or_is_not_there_is_refused(repo: Path, path: str):
    (repo / "empty").mkdir()
    (repo / "inner").mkdir()
    git(repo / "inner", "init", "-q")
    with pytest.raises(InvalidArgumentError) as problem:
        copies.add(str(repo), "", [path])
    assert "--copy" in problem.value.next_step


def test_a_repository_elsewhere_is_refused():
    with pytest.raises(ConductorError, match="on this machine"):
        copies.add("https://example.org/x.git", "", ["a"])


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        (".env", "", True),
        (".env.local", "", True),
        (".env.example", "KEY=", False),
        ("server.pem", "", True),
        ("id_ed25519", "", True),
        ("id_ed25519.pub", "", False),
        ("notes.txt", "-----BEGIN OPENSSH PRIVATE KEY-----", True),
        ("config.ini", "key = AKIAABCDEFGHIJKLMNOP", True),
        ("fixture.json", "{}", False),
    ],
)
def test_what_looks_like_a_secret(tmp_path: Path, name: str, text: str, is_one: bool):
    (tmp_path / name).write_text(text)
    assert copies.secret(tmp_path / name) == is_one

"""How do changes that are not committed yet become a commit that a task can begin at, without the user's repository changing?

The commit is made of plain objects by way of an index of our own: no reference points at it, and the user's index, branches,
stash and working tree stay as they are. git removes objects that nothing refers to after two weeks (git-gc(1), gc.pruneExpire).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.cli import repository
from claude_conductor.cli.repository import NOBODY, git
from claude_conductor.errors import WorkspaceError

SUBJECT: Final = "Changes that were not committed yet"
_GITLINK: Final = "160000"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A working tree as a commit."""

    repository: str
    """Absolute path of its top folder."""
    commit: str
    """What a task begins at; HEAD itself where nothing differs from it."""
    changed: int
    """Files that differ from HEAD: changed, deleted and new ones that are not ignored."""
    left_out: tuple[str, ...]
    """Repositories inside of it that git does not know as submodules."""


def take(text: str) -> Snapshot:
    """Make a commit of everything in a working tree that is not ignored. The same content gives the same commit.

    Args:
        text: Path of the repository or a folder in it.

    Raises:
        WorkspaceError: It is no repository here, has no commit, or is in the middle of a merge with conflicts.
    """
    checked = repository.check(text, "")
    top = Path(checked.repository)
    if not top.is_absolute():
        raise WorkspaceError(
            "Changes that are not committed can be taken only from a repository on this machine.",
            next_step="leave --dirty out, or name a folder with --repo",
            repo=text,
        )
    if git(top, "ls-files", "--unmerged").stdout:
        raise WorkspaceError(
            "The repository is in the middle of a merge with conflicts.",
            next_step="resolve them, or leave --dirty out",
            repo=top,
        )
    head = _must(git(top, "rev-parse", "HEAD"))
    with tempfile.TemporaryDirectory(prefix="conductor-") as folder:
        variables = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _copy_index(top, Path(folder, "index"))
        _must(git(top, "-c", "advice.addEmbeddedRepo=false", "add", "--all", variables=variables))
        left_out = _without_repositories(top, variables)
        tree = _must(git(top, "write-tree", variables=variables))
    if tree == _must(git(top, "rev-parse", f"{head}^{{tree}}")):
        return Snapshot(str(top), head, 0, left_out)
    # The date is that of HEAD: what was looked at twice is the same commit, so a task submitted twice is the same task.
    date = _must(git(top, "show", "--no-show-signature", "--no-patch", "--format=%cI", head))
    who = NOBODY | {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    commit = _must(git(top, "commit-tree", tree, "-p", head, "-m", SUBJECT, variables=who))
    names = git(top, "diff-tree", "-r", "-z", "--name-only", "--no-renames", head, commit).stdout
    return Snapshot(str(top), commit, names.count("\0"), left_out)


def is_one(path: str, commit: str) -> bool:
    """Tell whether a commit of a repository here is such a snapshot."""
    found = git(
        Path(path).expanduser(), "show", "--no-show-signature", "--no-patch", "--format=%ce%n%s", "--end-of-options", commit
    )
    return found.stdout.splitlines() == [NOBODY["GIT_COMMITTER_EMAIL"], SUBJECT]


def _copy_index(top: Path, target: Path) -> None:
    """Begin with the user's own index: it knows which files are unchanged, and which a sparse checkout leaves out."""
    own = Path(top, _must(git(top, "rev-parse", "--git-path", "index")))
    if own.exists():
        shutil.copyfile(own, target)


def _without_repositories(top: Path, variables: dict[str, str]) -> tuple[str, ...]:
    """Take repositories that are no submodules out of the index again: a clone could not get their files."""
    entries = git(top, "diff-index", "--cached", "-z", "--no-renames", "HEAD", variables=variables).stdout.split("\0")
    facts, paths = entries[0::2], entries[1::2]
    found = [path for fact, path in zip(facts, paths, strict=False) if fact.split()[:2] == [":000000", _GITLINK]]
    if found:
        listed = "".join(f"{path}\0" for path in found).encode()
        _must(git(top, "update-index", "-z", "--force-remove", "--stdin", variables=variables, data=listed))
    return tuple(found)


def _must(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise WorkspaceError(
            "The changes that are not committed could not be read.",
            next_step="commit or stash them, or leave --dirty out",
            git=" ".join(done.stderr.split()),
        )
    return done.stdout.strip()

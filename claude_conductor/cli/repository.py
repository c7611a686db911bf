"""What does git say about the user's own repository? Runs git as the user would; nothing of an agent is ever run."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.errors import MissingProgramError, WorkspaceError

DEADLINE: Final = 60.0
"""Seconds for one git command on a local repository."""
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:")
_QUIET: Final = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.splitIndex=false"),
    *("-c", "core.protectHFS=true", "-c", "core.protectNTFS=true", "-c", "apply.ignoreWhitespace=no"),
)
_ELSEWHERE: Final = frozenset(
    (
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_INTERNAL_SUPER_PREFIX"),
    )
)
"""Variables that would lead git to another repository than the one named: a hook of git's has them set."""
NOBODY: Final = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Conductor"), ("EMAIL", "conductor@conductor.local"))
}
"""Who commits where nobody else can be named."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A repository a task can be given."""

    repository: str
    """Absolute path of its top folder, or its URL."""
    changed_files: int
    """Files with changes that are not committed, which a clone does not have."""


def check(text: str, ref: str) -> Checked:
    """Look a repository up before a task is given it.

    Raises:
        WorkspaceError: It is no repository, has no commit, or lacks the reference.
    """
    if _URL.match(text):
        return Checked(text, 0)
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise WorkspaceError("There is no such folder.", next_step="name a git repository with --repo", repo=path)
    top = git(path, "rev-parse", "--show-toplevel")
    if top.returncode:
        raise WorkspaceError(
            "This folder is no git repository.",
            next_step="`git init` makes one, or use --folder to hand over a copy of it",
            repo=path,
        )
    if git(path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref or 'HEAD'}^{{commit}}").returncode:
        what = f"no branch, tag or commit `{ref}`" if ref else "no commit yet"
        raise WorkspaceError(
            f"The repository has {what}.", next_step="correct --ref" if ref else "commit something first", repo=path
        )
    changed = git(path, "status", "--porcelain", "--untracked-files=no").stdout.splitlines()
    return Checked(top.stdout.strip(), len(changed))


def apply(repository: str, commit: str, patch: bytes, branch: str, message: str) -> str:
    """Put a patch on a new branch without touching the user's working tree, index or present branch.

    Args:
        repository: Path of the user's repository.
        commit: What the patch applies to.
        patch: As `git diff --binary` writes it; believed nothing: git refuses paths that lead outside or into `.git`.
        branch: Name of the new branch.
        message: Of the commit.

    Returns:
        The new commit.

    Raises:
        WorkspaceError: The branch exists, the commit is not there, or the patch does not apply; nothing is changed then.
    """
    top = Path(check(repository, "").repository)
    if not has_commit(top, commit):
        raise WorkspaceError(
            "The commit that the task began at is not in this repository.",
            next_step="`git fetch` it here, or name the clone that has it with --repo",
            commit=commit,
            repo=top,
        )
    if git(top, "check-ref-format", f"refs/heads/{branch}").returncode or branch.startswith("-"):
        raise WorkspaceError("This cannot be the name of a branch.", next_step="choose another with --branch", branch=branch)
    if not git(top, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").returncode:
        raise WorkspaceError("A branch of this name is there already.", next_step="choose another with --branch", branch=branch)
    # An index of our own is all a commit needs: no worktree, no checkout, no filter runs on what an agent wrote.
    with tempfile.TemporaryDirectory(prefix="conductor-") as folder:
        variables = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _must(git(top, "read-tree", commit, variables=variables))
        _must(git(top, "apply", "--cached", "--binary", "--whitespace=nowarn", "-", variables=variables, data=patch))
        tree = _must(git(top, "write-tree", variables=variables))
    new = _must(git(top, "commit-tree", tree, "-p", commit, "-m", message, variables=_identity(top)))
    made = git(top, "branch", "--no-track", "--end-of-options", branch, new)
    if made.returncode:
        raise WorkspaceError(
            "git could not make the branch.",
            next_step="choose another with --branch",
            branch=branch,
            git=" ".join(made.stderr.split()),
        )
    return new


def has_commit(top: Path, commit: str) -> bool:
    """Tell whether a repository has a commit."""
    return not git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit or '-'}^{{commit}}").returncode


def _identity(top: Path) -> dict[str, str]:
    """Return variables that name an author where the user has not told git who they are."""
    return {} if not git(top, "var", "GIT_COMMITTER_IDENT").returncode else NOBODY


def git(
    folder: Path, *arguments: str, variables: dict[str, str] | None = None, data: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one git command without hooks.

    Raises:
        MissingProgramError: git is not installed.
        WorkspaceError: It did not end within 60 s.
    """
    try:
        done = subprocess.run(
            ["git", *_QUIET, "-C", str(folder), *arguments],
            input=data,
            stdin=None if data is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
            env={name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
            | (variables or {})
            | {"LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError as cause:
        raise MissingProgramError("git is not installed.", next_step="install git") from cause
    except subprocess.TimeoutExpired as cause:
        raise WorkspaceError("git did not end in time.", folder=folder, seconds=DEADLINE) from cause
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    )


def _must(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise WorkspaceError(
            "git refused the patch; nothing was changed.",
            next_step="`conductor tasks patch TASK` prints it, to be applied by hand",
            git=" ".join(done.stderr.split()),
        )
    return done.stdout.strip()

"""Which files that git does not have go along with a task, and how do they become part of the commit it begins at?

Like the snapshot of uncommitted changes this is a commit that no reference points at: on top of what the task would begin at, so
that the patch holds the agent's work alone, and can be put on what is below it.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.cli import repository
from claude_conductor.cli.repository import NOBODY, git
from claude_conductor.errors import InvalidArgumentError, WorkspaceError
from claude_conductor.units import format_size

SUBJECT: Final = "Files that go along with a task"
MOST_BYTES: Final = 256 << 20
MOST_PATHS: Final = 100
_LOOKED_AT: Final = 64 << 10
"""Bytes at the beginning of a file that are searched for secrets."""
_SECRET_NAMES: Final = (
    *(".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    *(".netrc", ".npmrc", ".pypirc", ".pgpass", "credentials", "credentials.*", "*secret*", ".htpasswd", "kubeconfig"),
)
_HARMLESS_NAMES: Final = ("*.example", "*.sample", "*.template", "*.dist", "*.pub")
_SECRET_WORDS: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bsk-[A-Za-z0-9_-]{20,}"
    rb"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bxox[abp]-[0-9A-Za-z-]{10,}"
)


@dataclass(frozen=True, slots=True)
class Copies:
    """Files on top of a commit."""

    commit: str
    """What the task begins at."""
    files: int
    secrets: tuple[str, ...]
    """Those that look like secrets, by their path in the repository."""


def add(folder: str, begin: str, paths: Sequence[str]) -> Copies:
    """Make a commit of files on top of another. The same content gives the same commit.

    Args:
        folder: The repository or a folder in it: paths begin there.
        begin: Branch, tag or commit the task would begin at; empty: HEAD.
        paths: Files and folders in the repository, whether git knows or ignores them.

    Raises:
        InvalidArgumentError: A path leads outside, is not there, or is a repository of its own; or it is too much.
        WorkspaceError: It is no repository of this machine.
    """
    top = Path(repository.check(folder, begin).repository)
    if not top.is_absolute():
        raise WorkspaceError(
            "Files can go along only with a repository on this machine.", next_step="leave --copy out, or clone it", repo=folder
        )
    if len(paths) > MOST_PATHS:
        raise InvalidArgumentError("That are too many paths.", next_step="name folders in --copy", limit=MOST_PATHS)
    here = Path(folder).expanduser().resolve()
    files = sorted({file for path in paths for file in _files(here, top.resolve(), path)})
    if not files:
        raise InvalidArgumentError("There is no file to go along.", next_step="correct --copy", copy=", ".join(paths))
    if (size := sum((top / file).lstat().st_size for file in files)) > MOST_BYTES:
        raise InvalidArgumentError(
            "That is too much to go along with a task.",
            next_step=f"name less in --copy: at most {format_size(MOST_BYTES)}",
            size=format_size(size),
        )
    base = _must(git(top, "rev-parse", "--verify", "--end-of-options", f"{begin or 'HEAD'}^{{commit}}"))
    with tempfile.TemporaryDirectory(prefix="conductor-") as scratch:
        variables = {"GIT_INDEX_FILE": str(Path(scratch, "index")), "GIT_LITERAL_PATHSPECS": "1"}
        _must(git(top, "read-tree", base, variables=variables))
        listed = "".join(f"{file}\0" for file in files).encode("utf-8", "surrogateescape")
        _must(
            git(
                top,
                "add",
                "--force",
                "--sparse",
                "--pathspec-from-file=-",
                "--pathspec-file-nul",
                variables=variables,
                data=listed,
            )
        )
        tree = _must(git(top, "write-tree", variables=variables))
    date = _must(git(top, "show", "--no-show-signature", "--no-patch", "--format=%cI", base))
    who = NOBODY | {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    commit = _must(git(top, "commit-tree", tree, "-p", base, "-m", SUBJECT, variables=who))
    return Copies(commit, len(files), tuple(file for file in files if secret(top / file)))


def below(path: str, commit: str) -> str:
    """Return the commit below such files, where a commit of a repository here is one that holds them; else the commit itself."""
    found = git(
        Path(path).expanduser(), "show", "--no-show-signature", "--no-patch", "--format=%ce%n%s%n%P", "--end-of-options", commit
    )
    match found.stdout.splitlines():
        case [email, subject, parent] if (email, subject) == (NOBODY["GIT_COMMITTER_EMAIL"], SUBJECT):
            return parent
    return commit


def secret(file: Path) -> bool:
    """Tell whether a file looks like one that should not be given away: by its name, or by how it begins."""
    name = file.name.lower()
    if any(fnmatch.fnmatch(name, pattern) for pattern in _SECRET_NAMES):
        return not any(fnmatch.fnmatch(name, pattern) for pattern in _HARMLESS_NAMES)
    if not stat.S_ISREG(file.lstat().st_mode):
        return False
    with file.open("rb") as content:
        return _SECRET_WORDS.search(content.read(_LOOKED_AT)) is not None


def _files(here: Path, top: Path, path: str) -> Iterator[str]:
    """Yield the files a path means, by their path in the repository; no link is followed."""
    whole = Path(os.path.normpath(here / path))
    if not path or Path(path).is_absolute() or not whole.is_relative_to(top) or whole == top:
        raise InvalidArgumentError("This is no path inside the repository.", next_step="correct --copy", copy=path, repo=top)
    if ".git" in (part.lower() for part in whole.relative_to(top).parts):
        raise InvalidArgumentError("What is in `.git` does not go along.", next_step="correct --copy", copy=path)
    if any(parent.is_symlink() for parent in whole.parents if parent.is_relative_to(top)):
        raise InvalidArgumentError("The path leads through a link.", next_step="name where it leads to in --copy", copy=path)
    if not os.path.lexists(whole):
        raise InvalidArgumentError(
            "There is nothing of this name to go along.", next_step="correct --copy", copy=path, folder=here
        )
    if whole.is_symlink() or not whole.is_dir():
        yield str(whole.relative_to(top))
        return
    for folder, folders, names in os.walk(whole):
        if ".git" in (*folders, *names):
            raise InvalidArgumentError("A repository of its own cannot go along.", next_step="correct --copy", copy=folder)
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in (*names, *links):
            if stat.S_ISREG(mode := Path(folder, name).lstat().st_mode) or stat.S_ISLNK(mode):
                yield str(Path(folder, name).relative_to(top))


def _must(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise WorkspaceError(
            "The files that should go along could not be read.", next_step="correct --copy", git=" ".join(done.stderr.split())
        )
    return done.stdout.strip()

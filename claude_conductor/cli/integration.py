"""How does git land patches on an integration branch without touching the user's files or running anything of an agent's?

What an agent wrote is merged in a git folder of our own that has no configuration: no hook, filter, merge driver, attribute or
fsmonitor of the user's or of the patch's comes into play. Only its objects go to the user's repository. The branch moves by
compare-and-set, from the commit that was built upon to the one that was checked, or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.cli import repository
from claude_conductor.cli.output import printable, printable_lines
from claude_conductor.cli.repository import NOBODY, git
from claude_conductor.errors import WorkspaceError
from claude_conductor.write_set import outside

TRAILER: Final = "Conductor-Task"
OUTPUT_BYTES: Final = 32 << 10
"""Of a conflict that is handed back."""
_OLDEST_GIT: Final = (2, 38)
"""`git merge-tree --write-tree` came with it (git: release notes of 2.38)."""
_NAMED: Final = 10
_SUBJECT: Final = 72
_IDENTITY: Final = re.compile(r"(?P<name>.*) <(?P<email>.*)> (?P<time>\d+ [+-]\d{4})")


@dataclass(frozen=True, slots=True)
class Change:
    """What a task hands in."""

    task_id: str
    base: str
    """The commit that its patch applies to."""
    patch: bytes
    """Believed nothing."""
    subject: str
    """What the task is about."""
    author: str
    """The agent's id."""
    time: int
    """Seconds since the epoch: when the task ended."""
    writes: Sequence[str] = ()
    """Its write set, in the normal form."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit upon the head of the branch that no reference points at yet."""

    commit: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """The change cannot be put upon the head."""

    reason: str
    output: str = ""
    """The conflict; hostile text."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The change would change nothing."""

    reason: str


class Integration:
    """A branch of a repository on this machine."""

    def __init__(self, text: str, branch: str, start: str = "") -> None:
        """Look it up; nothing is changed.

        Args:
            text: Path of the repository or a folder in it.
            branch: Its name; it need not be there yet.
            start: Where it begins if it is not there; empty: HEAD.

        Raises:
            WorkspaceError: It is no repository here, the branch has no possible name, the start is not there, or git is too old.
        """
        checked = repository.check(text, "")
        self.top = Path(checked.repository)
        self.branch = branch
        if not self.top.is_absolute():
            raise WorkspaceError(
                "Patches land only in a repository on this machine.", next_step="name a folder with --repo", repo=text
            )
        version = tuple(map(int, re.findall(r"\d+", git(self.top, "version").stdout)[:2]))
        if version < _OLDEST_GIT:
            raise WorkspaceError("This git cannot merge without a working tree.", next_step="install git 2.38 or newer")
        if git(self.top, "check-ref-format", self._ref).returncode or branch.startswith("-"):
            raise WorkspaceError("This cannot be the name of a branch.", next_step="choose another with --onto", branch=branch)
        if start and not repository.has_commit(self.top, start):
            raise WorkspaceError(
                f"The repository has no branch, tag or commit `{start}`.", next_step="correct --from", repo=self.top
            )
        self._start = _must(git(self.top, "rev-parse", "--verify", "--end-of-options", f"{start or 'HEAD'}^{{commit}}"))
        self._objects = Path(self.top, _must(git(self.top, "rev-parse", "--git-path", "objects"))).resolve()
        self._format = _must(git(self.top, "rev-parse", "--show-object-format"))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from landing in this repository for the length of the block; the end of the process ends it too.

        Raises:
            WorkspaceError: Somebody lands in it now, or the branch is checked out.
        """
        folder = os.open(Path(self.top, _must(git(self.top, "rev-parse", "--git-common-dir"))), os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as cause:
                raise WorkspaceError(
                    "Another `conductor merge` is landing patches in this repository.",
                    next_step="wait for its end; the branch takes one patch after another",
                    repo=self.top,
                ) from cause
            self.refuse_checked_out()
            yield
        finally:
            os.close(folder)

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def exists(self) -> bool:
        """Whether the branch is there; it comes with its first landing."""
        return bool(self._tip())

    def head(self) -> str:
        """Return the commit that the next change goes upon."""
        return self._tip() or self._start

    def has(self, commit: str) -> bool:
        """Tell whether the repository has a commit."""
        return repository.has_commit(self.top, commit)

    def _tip(self) -> str:
        return git(self.top, "rev-parse", "--verify", "--quiet", f"{self._ref}^{{commit}}").stdout.strip()

    def landed(self, head: str) -> dict[str, str]:
        """Return the commit of each task that is part of a history, by the trailers of its commits."""
        form = f"--format=%H %(trailers:key={TRAILER},valueonly,separator=%x20)"
        log = _must(git(self.top, "log", "--no-show-signature", f"--grep=^{TRAILER}: ", form, "--end-of-options", head))
        found: dict[str, str] = {}
        for line in log.splitlines():
            commit, *task_ids = line.split()
            for task_id in task_ids:
                found.setdefault(task_id, commit)
        return found

    def build(self, change: Change, head: str) -> Candidate | Misfit | Nothing:
        """Put a change upon a commit. The same change upon the same commit is the same commit again.

        Raises:
            WorkspaceError: git failed otherwise than by a conflict.
        """
        if not repository.has_commit(self.top, change.base):
            return Misfit(f"the commit that it began at, {change.base[:12]}, is not in {self.top}")
        with tempfile.TemporaryDirectory(prefix="conductor-") as folder:
            bare = _Bare(Path(folder), self._objects, self._format)
            tree = bare.applied(change.base, change.patch)
            if isinstance(tree, Misfit):
                return tree
            names = bare.changed(change.base, tree)
            if strays := outside(change.writes, names) if change.writes else []:
                named = ", ".join(map(printable, strays[:_NAMED]))
                more = f" and {len(strays) - _NAMED} more" if len(strays) > _NAMED else ""
                return Misfit(f"it changed files outside of its write set ({', '.join(change.writes)}): {named}{more}")
            merged = bare.merged(change.base, head, tree) if names else tree
            if isinstance(merged, Misfit):
                return merged
            if not names or merged == bare.tree(head):
                return Nothing("it changed nothing" if not names else f"{self.branch} has its changes already")
            subject = printable(" ".join(change.subject.split()))[:_SUBJECT].strip() or change.task_id
            message = f"{subject}\n\n{TRAILER}: {change.task_id}\n"
            return Candidate(bare.commit(merged, head, message, self._who(change, head)))

    def _who(self, change: Change, head: str) -> dict[str, str]:
        """Return variables that name the agent as author and the user as committer, with times that a repeat gives again."""
        found = _IDENTITY.match(git(self.top, "var", "GIT_COMMITTER_IDENT").stdout.strip())
        name, email = (found["name"], found["email"]) if found else (NOBODY["GIT_COMMITTER_NAME"], NOBODY["GIT_COMMITTER_EMAIL"])
        shown = git(self.top, "show", "--no-show-signature", "--no-patch", "--format=%ct", "--end-of-options", head)
        before = int(_must(shown).splitlines()[-1])
        agent = change.author or NOBODY["GIT_AUTHOR_NAME"]
        return {
            "GIT_AUTHOR_NAME": agent,
            "GIT_AUTHOR_EMAIL": f"{agent}@conductor.local",
            "GIT_AUTHOR_DATE": f"@{change.time} +0000",
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
            "GIT_COMMITTER_DATE": f"@{max(change.time, before)} +0000",
        }

    def land(self, commit: str, head: str) -> bool:
        """Move the branch from `head` to the commit of a candidate; return False if it is not there any more.

        Raises:
            WorkspaceError: The branch is checked out somewhere, or cannot be written.
        """
        self.refuse_checked_out()
        expected = head if self.exists else "0" * len(head)
        moved = git(self.top, "update-ref", "-m", "conductor merge", self._ref, commit, expected)
        if moved.returncode == 0:
            return True
        if self.head() != head:
            return False
        raise WorkspaceError("The branch could not be moved.", branch=self.branch, git=" ".join(moved.stderr.split()))

    def refuse_checked_out(self) -> None:
        """Refuse a branch that a working tree is on: it would not match any more.

        Raises:
            WorkspaceError: Some working tree of the repository is on it.
        """
        if f"branch {self._ref}" in git(self.top, "worktree", "list", "--porcelain").stdout.splitlines():
            raise WorkspaceError(
                "The branch is checked out: landing would change it under your working tree.",
                next_step="`git switch` to another branch there, or name another with --onto",
                branch=self.branch,
            )


class _Bare:
    """A git folder of our own, for the length of one merge."""

    def __init__(self, folder: Path, objects: Path, object_format: str) -> None:
        self._folder = folder
        isolated = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "0",
            "GIT_ATTR_NOSYSTEM": "1",
        }
        self._variables = {**isolated, "GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1"}
        _must(self._git("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", "own"))
        own = folder / "own"
        self._variables |= {"GIT_DIR": str(own), "GIT_OBJECT_DIRECTORY": str(objects), "GIT_INDEX_FILE": str(own / "index")}

    def _git(
        self, *arguments: str, variables: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        quiet = ("-c", f"core.attributesFile={os.devnull}", "-c", "merge.renames=true", "-c", "core.quotePath=false")
        return git(self._folder, *quiet, *arguments, variables={**self._variables, **(variables or {})}, data=data)

    def tree(self, commit: str) -> str:
        """Return the tree of a commit."""
        return _must(self._git("rev-parse", "--verify", f"{commit}^{{tree}}"))

    def applied(self, base: str, patch: bytes) -> str | Misfit:
        """Return the tree that a patch makes of a commit."""
        _must(self._git("read-tree", base))
        if patch.strip():
            done = self._git("apply", "--cached", "--binary", "--whitespace=nowarn", "-", data=patch)
            if done.returncode:
                return Misfit("git refuses its patch", _cut(done.stderr))
        return _must(self._git("write-tree"))

    def changed(self, base: str, tree: str) -> list[str]:
        """Return the paths in which a tree differs from a commit."""
        listed = _must(self._git("diff-tree", "-r", "-z", "--name-only", "--no-renames", self.tree(base), tree), strip=False)
        return [name for name in listed.split("\0") if name]

    def merged(self, base: str, head: str, tree: str) -> str | Misfit:
        """Return the tree of `head` with what leads from `base` to `tree`."""
        # Commits of our own make `base` the merge base, whatever the history is (`--merge-base` came with git 2.40).
        origin = self.commit(self.tree(base), "", "base", NOBODY)
        ours = self.commit(self.tree(head), origin, "head", NOBODY)
        theirs = self.commit(tree, origin, "change", NOBODY)
        done = self._git("merge-tree", "--write-tree", "--messages", "--name-only", "-z", ours, theirs)
        if done.returncode not in (0, 1):
            _must(done)
        result, *rest = done.stdout.split("\0")
        if done.returncode == 0:
            return result
        names = list(dict.fromkeys(rest[: rest.index("")]))
        reason = f"it conflicts with what has landed before, in {', '.join(map(printable, names[:_NAMED]))}"
        shown = self._git(
            "diff-tree", "-p", "--no-ext-diff", "--no-textconv", "--no-color", self.tree(head), result, "--", *names[:_NAMED],
            variables={"GIT_LITERAL_PATHSPECS": "1"},
        )  # fmt: skip
        words = shown.stdout.replace(f"<<<<<<< {ours}", "<<<<<<< landed before").replace(f">>>>>>> {theirs}", ">>>>>>> this task")
        return Misfit(reason, _cut("\n".join([*_messages(rest[rest.index("") + 1 :]), "", words])))

    def commit(self, tree: str, parent: str, message: str, who: Mapping[str, str]) -> str:
        """Write a commit and return it; an empty parent is none."""
        dates = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}
        parents = ("-p", parent) if parent else ()
        return _must(self._git("commit-tree", tree, *parents, "-m", message, variables={**dates, **who}))


def _messages(fields: Sequence[str]) -> list[str]:
    """Return what git says about a merge: each of number of paths, paths, kind, words (git-merge-tree(1), `-z`)."""
    found: list[str] = []
    at = 0
    while at < len(fields) and fields[at].isdigit():
        words = at + int(fields[at]) + 2
        found += [line for line in fields[words : words + 1] if line]
        at = words + 1
    return [line.strip() for line in found if "CONFLICT" in line]


def _cut(text: str) -> str:
    return printable_lines(text.encode()[:OUTPUT_BYTES].decode("utf-8", "ignore")).strip()


def _must(done: subprocess.CompletedProcess[str], *, strip: bool = True) -> str:
    if done.returncode:
        raise WorkspaceError("git failed; nothing was changed.", git=" ".join(done.stderr.split()) or f"exit {done.returncode}")
    return done.stdout.strip() if strip else done.stdout

"""Where do the files of requests come from: are the repositories and folders there, and at which commit do tasks begin?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from claude_conductor.cli import complaint, copies, repository, snapshot
from claude_conductor.cli.request import Request
from claude_conductor.cli.task_file import Entry
from claude_conductor.errors import InvalidArgumentError


def found(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries with absolute paths, as `looked_up` does."""
    requests = looked_up([entry.request for entry in entries])
    return [dataclasses.replace(entry, request=request) for entry, request in zip(entries, requests, strict=True)]


def looked_up(requests: Sequence[Request]) -> list[Request]:
    """Return the requests with absolute paths; each repository is looked up once, and changes in it taken along if asked for.

    A request that takes changes along comes back with the commit that holds them as its reference.

    Raises:
        WorkspaceError: A repository cannot be used.
        InvalidArgumentError: A folder is not there.
    """
    seen: dict[tuple[str, str, bool, tuple[str, ...]], tuple[str, str]] = {}
    found = []
    for request in requests:
        changes: dict[str, str | bool | tuple[str, ...]] = {}
        if request.dirty and (request.ref or not request.repo):
            raise InvalidArgumentError(
                "--dirty takes along what is not committed in the working tree of a repository.",
                next_step="leave --ref out" if request.repo else "add --repo PATH",
            )
        if request.repo:
            key = (request.repo, request.ref, request.dirty, request.copy)
            if key not in seen:
                where, begin = _snapshot(request) if request.dirty else _checked(request)
                seen[key] = (where, _with_copies(request, begin)) if request.copy else (where, begin)
            changes["repo"], changes["ref"] = seen[key]
            changes["dirty"], changes["copy"] = False, ()
        elif request.copy:
            raise InvalidArgumentError(
                "--copy adds files to the clone of a repository.",
                next_step="leave it out: a folder is copied as a whole" if request.folder else "add --repo PATH",
            )
        if request.folder:
            path = Path(request.folder).expanduser().resolve()
            if not path.is_dir():
                raise InvalidArgumentError("There is no such folder.", next_step="correct --folder", folder=path)
            changes["folder"] = str(path)
        found.append(dataclasses.replace(request, **changes))  # type: ignore[arg-type]  # each under the name of its own type
    return found


def _checked(request: Request) -> tuple[str, str]:
    checked = repository.check(request.repo, request.ref)
    if number := checked.changed_files:
        changed = f"{number} changed file{'s are' if number > 1 else ' is'}"
        complaint.warn(
            f"{changed} not committed in {request.repo}: agents work on a clone, without them; --dirty takes them along"
        )
    return checked.repository, request.ref


def _snapshot(request: Request) -> tuple[str, str]:
    taken = snapshot.take(request.repo)
    if taken.changed:
        files = f"{taken.changed} file{'s' if taken.changed > 1 else ''}"
        complaint.note(f"{files} not committed in {request.repo} taken along, as {taken.commit[:12]}")
    for path in taken.left_out:
        complaint.warn(f"{path!r} is a repository of its own and is not taken along")
    return taken.repository, taken.commit


def _with_copies(request: Request, begin: str) -> str:
    added = copies.add(request.repo, begin, request.copy)
    files = f"{added.files} file{'s' if added.files > 1 else ''}"
    complaint.note(f"{files} copied along: {', '.join(request.copy)}, as {added.commit[:12]}")
    for path in added.secrets:
        complaint.warn(f"{path!r} looks like a secret: agents can read it, and git keeps it for two weeks; better give them none")
    return added.commit

"""Where do the files of requests come from: are the repositories and folders there, and at which commit do tasks begin?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from claude_conductor.cli import complaint, repository, snapshot
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
    seen: dict[tuple[str, str, bool], tuple[str, str]] = {}
    found = []
    for request in requests:
        changes: dict[str, str | bool] = {}
        if request.dirty and (request.ref or not request.repo):
            raise InvalidArgumentError(
                "--dirty takes along what is not committed in the working tree of a repository.",
                next_step="leave --ref out" if request.repo else "add --repo PATH",
            )
        if request.repo:
            key = (request.repo, request.ref, request.dirty)
            if key not in seen:
                seen[key] = _snapshot(request) if request.dirty else _checked(request)
            changes["repo"], changes["ref"] = seen[key]
            changes["dirty"] = False
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

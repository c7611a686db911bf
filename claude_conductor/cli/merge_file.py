"""How does a file of tasks ask for its patches to be landed?

merge: {onto: agents, check: make test}
tasks: [...]
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from claude_conductor.cli.integration import Integration
from claude_conductor.cli.request import Request, spec
from claude_conductor.cli.task_file import Entry
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings.yaml_file import Text

PRIORITY: Final = 10
"""Of checks: everything behind them waits."""
_TEXTS: Final = ("onto", "check", "from", "level", "timeout", "setup")
_LISTS: Final = ("setup_cache", "allow")


@dataclass(frozen=True, slots=True)
class Merging:
    """Where patches land, and what is checked."""

    branch: Integration
    check: Request
    """The task that checks, but for the commit."""


def checking(command: str, branch: Integration, **more: str | tuple[str, ...]) -> Request:
    """Return the task that checks, but for the commit.

    Args:
        command: A shell line.
        branch: Of this repository.
        **more: `level`, `timeout`, `setup`, `setup_cache`, `allow`, as `conductor run` knows them.

    Raises:
        InvalidArgumentError: A value cannot be used, or there is no command.
    """
    if not command.strip():
        raise InvalidArgumentError("Nothing lands unchecked.", next_step="add --check 'make test', for example")
    given = {"level": "strict", **more}
    request = Request(cmd=command, repo=str(branch.top), type="generic", priority=PRIORITY, attempts=1, **given)  # type: ignore[arg-type]  # by their names
    spec(request)
    return request


def read(text: Text, entries: Sequence[Entry]) -> Merging | None:
    """Return what the block `merge` of a file asks for; None if there is none.

    Args:
        text: The file.
        entries: Its tasks, with absolute paths.

    Raises:
        InvalidArgumentError: A key or a value is wrong, or the tasks are not all of one repository; names file and line.
        WorkspaceError: The branch or its repository cannot be used.
    """
    if "merge" not in text.values:
        return None
    block = text.values["merge"]
    wrong = {"file": text.source, "line": text.lines.get(("merge",), 1)}
    if not isinstance(block, dict) or not block.get("onto") or not block.get("check"):
        raise InvalidArgumentError(
            "`merge` says on which branch patches land, and what is checked.",
            next_step="merge: {onto: agents, check: make test}",
            **wrong,
        )
    for key, value in block.items():
        if key not in (*_TEXTS, *_LISTS):
            near = difflib.get_close_matches(str(key), (*_TEXTS, *_LISTS), n=1, cutoff=0.0)
            raise InvalidArgumentError(
                f"Unknown key `{key}` of `merge`.", next_step=f"the nearest valid one is `{near[0]}`", **wrong
            )
        if not isinstance(value, list if key in _LISTS else str):
            what = "a list" if key in _LISTS else "a text"
            raise InvalidArgumentError(f"`{key}` of `merge` is {what}.", next_step="correct it", **wrong)
    repositories = {entry.request.repo for entry in entries if entry.group is None}
    if len(repositories) > 1 or "" in repositories:
        raise InvalidArgumentError(
            "Patches land in one repository, that of all tasks of the file.", next_step="put `repo` into `defaults`", **wrong
        )
    branch = Integration(repositories.pop(), block["onto"], block.get("from", ""))
    more = {key: value for key, value in block.items() if key not in ("onto", "check", "from")}
    lists = {key: tuple(map(str, more.pop(key))) for key in _LISTS if key in more}
    return Merging(branch, checking(block["check"], branch, **more, **lists))

"""How git is run so that nothing an agent or a repository contains is ever executed: own configuration, no hooks, no helpers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from claude_conductor.errors import MissingProgramError, WorkspaceError

_CONFIG: Final = """[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tuntrackedCache = false
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tautocrlf = false
[credential]
\thelper =
[gc]
\tauto = 0
[maintenance]
\tauto = false
[protocol "ext"]
\tallow = never
[submodule]
\trecurse = false
[advice]
\tdetachedHead = false
"""
"""The only configuration besides that of the repository a command is pointed at."""


class Git:
    """Runs git.

    Args:
        config: Where the configuration file is written; in a folder of the sidecar's own.
        search_path: PATH to find git on.
    """

    def __init__(self, config: Path, search_path: str) -> None:
        self._config = config
        self._search_path = search_path

    def prepare(self) -> None:
        """Write the configuration.

        Raises:
            OSError: It cannot be written.
        """
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self._config.write_text(_CONFIG)

    def environment(self) -> Mapping[str, str]:
        """Return the whole environment of git; nothing is inherited."""
        return {
            "PATH": self._search_path,
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_CONFIG_GLOBAL": str(self._config),
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
        }

    async def run(
        self, *arguments: str | Path, stdin: IO[bytes] | int = asyncio.subprocess.DEVNULL, stdout: IO[bytes] | None = None
    ) -> bytes:
        """Run git to its end and return what it printed. Cancelling it kills it.

        Args:
            arguments: Without the leading `git`.
            stdin: An open file; nothing by default.
            stdout: An open file that takes the output instead.

        Raises:
            MissingProgramError: git is not installed.
            WorkspaceError: It failed; the message holds its own last words.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *map(str, arguments),
                stdin=stdin,
                stdout=stdout or asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(self.environment()),
                start_new_session=True,
            )
        except FileNotFoundError as cause:
            raise MissingProgramError("git is not installed.", next_step="install git on the sidecar's host") from cause
        try:
            printed, complaint = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
            raise
        if process.returncode != 0:
            words = complaint.decode(errors="replace").strip().splitlines()
            said = next((line for line in reversed(words) if line.startswith(("fatal:", "error:"))), words[-1] if words else "")
            raise WorkspaceError(f"git {_verb(arguments)} failed: {said or f'exit code {process.returncode}'}")
        return printed or b""


def _verb(arguments: tuple[str | Path, ...]) -> str:
    known = {"clone", "rev-parse", "checkout", "reset", "init", "fetch", "ls-files", "ls-tree", "fast-import", "diff", "config"}
    return next((str(word) for word in arguments if str(word) in known), "")

"""How does a supervisor begin: `python -m claude_conductor.supervisor --setup-fd N [--detach]`?

It reads the set-up, starts the set, and says on standard output in one JSON line that it runs, or why not.
"""

from __future__ import annotations

import json
import os
import sys
import time

from claude_conductor.errors import ConductorError, HomeUnusableError, SettingsError
from claude_conductor.supervisor import home, remains, setup, tokens
from claude_conductor.supervisor.loop import Supervisor, log

_SETUP_LIMIT = 16 << 20
_USAGE = "usage: python -m claude_conductor.supervisor --setup-fd N [--detach]"
_EXIT_USAGE = 2


def main(arguments: list[str]) -> int:
    """Run a supervisor; return the exit code."""
    words = [word for word in arguments if word != "--detach"]
    if len(words) != 2 or words[0] != "--setup-fd" or not words[1].isdigit():
        sys.stderr.write(_USAGE + "\n")
        return _EXIT_USAGE
    try:
        the_set = setup.parse(_read_all(int(words[1])))
        if len(words) < len(arguments) and os.fork() != 0:
            return 0  # the caller waits for the answer, not for this process, so it never has a child to reap
        _run(the_set)
    except ConductorError as error:
        _answer({"error": type(error).__name__, "message": error.message, "advice": error.next_step, "details": error.details})
        log(error.message, **error.details)
        return 1
    return 0


def _run(the_set: setup.Setup) -> None:
    its_home = home.Home(the_set.home)
    home.prepare(its_home)
    home.acquire(its_home)  # never closed: the lock is held for life
    if (before := home.read_state(its_home)) is not None:  # the last one was killed
        remains.end(its_home, before, the_set.grace)
    minted = tokens.prepare_tokens(its_home, [str(each.agent_id) for each in the_set.sidecars])
    os.chdir(the_set.home)
    supervisor = Supervisor(the_set, minted, its_home, monotonic=time.monotonic, now=time.time)
    try:
        supervisor.run(lambda: _answer({"pid": os.getpid()}))
    except OSError as error:
        raise HomeUnusableError(path=the_set.home, cause=error.strerror) from error


def _read_all(descriptor: int) -> str:
    try:
        with open(descriptor, "rb") as file:
            text = file.read(_SETUP_LIMIT).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("the supervisor's set-up cannot be read", cause=error) from error
    if descriptor == 0:
        os.open(os.devnull, os.O_RDONLY)  # takes the place of standard input, so no log or pipe gets that number
    return text


def _answer(document: dict[str, object]) -> None:
    """Tell whoever started us, then let go of their pipe: standard output becomes the log."""
    try:
        os.write(1, json.dumps(document).encode() + b"\n")
    except OSError as error:  # they have gone: the set runs all the same
        log("nobody reads the answer", cause=str(error))
    os.dup2(2, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

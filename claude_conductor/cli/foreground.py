"""How does `conductor start --foreground` stay, small, in front of the set it has started?"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn

from claude_conductor.cli import setup_document
from claude_conductor.settings.home import Home
from claude_conductor.supervisor.foreground import HANDLED


def stop_on_term() -> None:
    """Let TERM end a start as Ctrl-C does; the first process of a container would not hear it at all (pid_namespaces(7))."""
    signal.signal(signal.SIGTERM, _interrupt)


def stay(home: Home, offsets: Mapping[str, int]) -> NoReturn:
    """Become the program that stays in front of the running set; never returns.

    Args:
        home: Of the set.
        offsets: How large each log was before the start, in bytes, by name of the program: what is behind is shown.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    reader, writer = os.pipe()
    os.write(writer, json.dumps(offsets).encode())
    os.close(writer)
    os.dup2(reader, 0)
    os.close(reader)
    sys.stdout.flush()
    argv = [sys.executable, "-P", "-m", "claude_conductor.supervisor.foreground", str(home.path)]
    os.execve(sys.executable, argv, setup_document.supervisor_environment(home, os.environ))  # noqa: S606 - becomes it


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt

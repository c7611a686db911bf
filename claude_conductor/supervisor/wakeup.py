"""How do signals reach a loop that sleeps in select?"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Self

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


class Wakeup:
    """Turns signals into bytes on a socket (signal.set_wakeup_fd), so nothing happens inside a signal handler.

    SIGHUP is among them to be ignored: SIG_IGN would be inherited by every child, a handler is not (execve(2)).
    """

    def __init__(self) -> None:
        """Make the socket; nothing is handled before `with`."""
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0.0)
        self._writer.settimeout(0.0)
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self._fd_before = -1

    def __enter__(self) -> Self:
        """Handle the signals from here on. Main thread only."""
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _note) for number in _HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        """Put back what was there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable after a signal."""
        return self._reader.fileno()

    def drain(self) -> list[int]:
        """Return the signals that came, in order; with a full buffer some may be missing, never all."""
        try:
            return list(os.read(self._reader.fileno(), 4096))
        except BlockingIOError:
            return []


def _note(_number: int, _frame: FrameType | None) -> None:
    """Exist: with a handler in Python the interpreter writes the signal's number to the wake-up descriptor."""

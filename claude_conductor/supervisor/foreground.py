"""What stays in front of a set, as the first process of a container has to?

`python -m claude_conductor.supervisor.foreground HOME`, which `conductor start --foreground` becomes.
It passes TERM and INT on to the supervisor, writes what all programs log to standard output, reaps processes that lost their
parent, and ends when the supervisor has. Standard input holds the offsets in the logs at which it begins, one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

from claude_conductor.errors import NotRunningError
from claude_conductor.supervisor import control, processes
from claude_conductor.supervisor.following import Following
from claude_conductor.supervisor.home import Home, read_state

PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT})
HANDLED = PASSED_ON | {signal.SIGHUP, signal.SIGCHLD}
"""Blocked from before this program is until its end, and waited for: none is lost, and none interrupts anything."""

_POLL = 0.25
"""Seconds between two looks into the logs."""


def main(arguments: list[str]) -> int:
    """Stay until the set has ended; 0 if it was stopped in order, 1 if its supervisor died."""
    (home,) = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    place = Home(home)
    following = Following(os.path.dirname(place.log("any")), json.loads(sys.stdin.read() or "{}"))
    state = control.running(home)
    supervisor = None if state is None else processes.handle(processes.Identity(state.pid, state.start_time))
    if supervisor is not None:
        _stay(supervisor, following)
        os.close(supervisor)
    orderly = read_state(place) is None  # the supervisor forgets its state at the end of an orderly stop, and only then
    with contextlib.suppress(NotRunningError):
        control.stop(home)
    _write(following)
    return 0 if orderly else 1


def _stay(supervisor: int, following: Following) -> None:
    while not processes.wait(supervisor, 0.0):
        came = signal.sigtimedwait(HANDLED, _POLL)
        if came is not None and came.si_signo in PASSED_ON:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(supervisor, signal.SIGTERM)
        _reap()
        _write(following)
    _reap()


def _reap() -> None:
    """Take leave of every child that ended: in a container, those that lost their parent are ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _write(following: Following) -> None:
    for line in following.added():
        with contextlib.suppress(OSError):  # nobody reads: the set runs all the same, and its logs are in files
            os.write(1, line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

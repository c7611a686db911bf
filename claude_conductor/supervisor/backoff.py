"""When, if at all, is a program started again that ended by itself?"""

from __future__ import annotations

import signal
from dataclasses import dataclass

EX_CONFIG = 78
"""Exit code of a program that refuses its settings (sysexits.h): starting it again cannot help."""

_MOST_DOUBLINGS = 62


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patient restarts are; all in seconds."""

    first_delay: float
    max_delay: float
    reset_after: float
    """A program that ran this long has recovered: the next failure counts as its first."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a program that ended."""

    delay: float | None
    """Seconds until it is started again; None = it stays down until the user has corrected its settings."""
    failures: int
    """Failures in a row, this one included."""


def decide(returncode: int, ran_for: float, failures: int, policy: RestartPolicy) -> Verdict:
    """Decide about a program that ended without being asked to.

    Args:
        returncode: Its exit code, or minus the signal that killed it.
        ran_for: Seconds it ran.
        failures: Failures in a row before this one.
        policy: The settings.
    """
    if returncode == EX_CONFIG:
        return Verdict(delay=None, failures=failures + 1)
    before = 0 if ran_for >= policy.reset_after else failures
    delay = policy.first_delay * 2 ** min(before, _MOST_DOUBLINGS)
    return Verdict(delay=min(delay, policy.max_delay), failures=before + 1)


def cause(returncode: int) -> str:
    """Say in words how a program ended, e.g. `exit code 1` or `signal 9 (SIGKILL)`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {-returncode} ({signal.Signals(-returncode).name})"
    except ValueError:  # a real-time signal has a number only
        return f"signal {-returncode}"

"""How a run ended, in words: from a wait status and what the groups counted to an exit."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from agent_sidecar.isolation.interface import Cause, Exit, Limits, Stats

_SIGNAL_BASE = 128
"""Shells and bubblewrap report death by signal N as exit code 128 + N."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when the outermost process of a run is gone."""

    status: int
    """As wait(2) gives it."""
    stats: Stats
    limits: Limits
    stop_asked: bool
    start_error: str = ""
    """What the sandbox said when it could not be entered."""


def explain(ending: Ending) -> Exit:
    """Return the exit; a kill at the memory limit counts as such even when the sandbox around it reports a mere code."""
    if ending.start_error:
        return Exit(Cause.START_FAILED, detail=ending.start_error)
    code, number = _code_and_signal(ending.status)
    notes = _notes(ending)
    if ending.stop_asked:
        return Exit(Cause.STOPPED, code, number, "; ".join(("stopped on request", *notes)))
    if number == signal.SIGKILL and ending.stats.oom_kills:
        return Exit(Cause.OUT_OF_MEMORY, code, number, "; ".join(notes))
    if number is not None:
        return Exit(Cause.SIGNALLED, None, number, "; ".join((f"ended by {_name(number)}", *notes)))
    return Exit(Cause.EXITED, code, None, "; ".join(notes))


def megabytes(size: int) -> str:
    """Return a size for people, in GiB where it is a whole number of them, else in MiB."""
    gibibytes, rest = divmod(size, 1 << 30)
    return f"{gibibytes} GiB" if gibibytes and not rest else f"{size / (1 << 20):.0f} MiB"


def _code_and_signal(status: int) -> tuple[int | None, int | None]:
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    code = os.WEXITSTATUS(status)
    number = code - _SIGNAL_BASE
    return (None, number) if number in set(signal.Signals) else (code, None)


def _notes(ending: Ending) -> list[str]:
    stats, limits = ending.stats, ending.limits
    notes: list[str] = []
    if stats.oom_kills:
        processes = "a process was" if stats.oom_kills == 1 else f"{stats.oom_kills} processes were"
        peak = f" (peak {megabytes(stats.memory_peak_bytes)})" if stats.memory_peak_bytes else ""
        notes.append(f"{processes} killed at the memory limit of {megabytes(limits.memory_bytes)}{peak}; raise it with --memory")
    if stats.pids_refused:
        notes.append(f"{stats.pids_refused} forks were refused at the limit of {limits.pids} processes")
    if stats.throttled_seconds >= max(1.0, 0.5 * stats.cpu_seconds):
        notes.append(
            f"it waited {stats.throttled_seconds:.1f} s for its share of {limits.cpus:g} processors; raise it with --cpus"
        )
    return notes


def _name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"

"""Is that process still the one that was started, and how is it ended for certain?"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

KILL_WAIT = 2.0
"""Seconds the kernel gets to finish a killed process; longer means it hangs in a device."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    start_time: int


def start_time(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat (proc(5)); None if there is no such process or only its zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    """Return what distinguishes this boot of the kernel from every other (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def alive(identity: Identity) -> bool:
    """Tell whether exactly this process runs."""
    return start_time(identity.pid) == identity.start_time


def handle(identity: Identity) -> int | None:
    """Open a pidfd (pidfd_open(2)) of exactly this process; None if it is gone. The caller closes it."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if alive(identity):  # checked after opening: from here on the descriptor cannot mean another process
        return descriptor
    os.close(descriptor)
    return None


def wait(descriptor: int, seconds: float) -> bool:
    """Wait until the process of a pidfd ended; False if it still runs after `seconds`."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def kill_group(pid: int) -> None:
    """Kill the process group a child leads; nothing happens if it is empty. Only for a pid not yet reaped or verified."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: only processes of another uid are left
        os.killpg(pid, signal.SIGKILL)


def end_all(identities: Iterable[Identity], grace: float) -> tuple[Identity, ...]:
    """Wait until all of them are gone, and kill the groups of those that are not after `grace` seconds.

    Each is given the same moment, so the call takes at most `grace` + `KILL_WAIT` seconds.

    Returns:
        Those that had to be killed.
    """
    killed = []
    with contextlib.ExitStack() as stack:
        watched = []
        for identity in identities:
            if (descriptor := handle(identity)) is not None:
                stack.callback(os.close, descriptor)
                watched.append((identity, descriptor))
        deadline = time.monotonic() + grace
        for identity, descriptor in watched:
            if not wait(descriptor, deadline - time.monotonic()):
                kill_group(identity.pid)
                killed.append(identity)
        deadline = time.monotonic() + KILL_WAIT
        for _, descriptor in watched:
            wait(descriptor, deadline - time.monotonic())
    return tuple(killed)

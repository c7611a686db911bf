"""Who this sidecar is on its host: its folder, the uid its agents run as, and the prefix of every group it makes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.isolation import accounts
from claude_conductor.errors import AlreadyRunningError, IsolationRefusedError

_TOKEN_BYTES = 4


@dataclass(slots=True)
class Slot:
    """One sidecar's place on the host, held by file locks until it is released."""

    folder: Path
    uid: int
    gid: int
    prefix: str
    """Every group of this slot starts with it, and nobody else's does: it holds a random word recorded in the folder."""
    _locks: list[int]

    def release(self) -> None:
        """Give the locks back; the uid and the prefix stay recorded for the next life of the slot."""
        while self._locks:
            os.close(self._locks.pop())


def take(folder: Path, locks: Path, uids: tuple[int, int], *, known: Callable[[int], bool] | None = None) -> Slot:
    """Take the slot whose record lies in `folder`.

    Args:
        folder: State of this slot; made 0700 if it is not there.
        locks: Folder shared by every sidecar of this host, with a lock file for each uid.
        uids: First and last uid for agents; used if this process is root.
        known: Tells whether the system knows a uid; such a uid is never used.

    Raises:
        AlreadyRunningError: Another process holds this folder.
        IsolationRefusedError: No uid of the range is free.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = _lock(folder / "slot.lock")
    if held is None:
        raise AlreadyRunningError("Another sidecar uses this slot.", folder=folder)
    token, last = _recorded(folder / "slot")
    if os.geteuid() != 0:
        uid, gid, taken = os.geteuid(), os.getegid(), [held]
    else:
        locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            uid, lock = _free_uid(locks, uids, last, known or accounts.is_known)
        except IsolationRefusedError:
            os.close(held)
            raise
        gid, taken = uid, [held, lock]
    _record(folder / "slot", token, uid)
    return Slot(folder, uid, gid, f"conductor-{token}-", taken)


def _free_uid(locks: Path, uids: tuple[int, int], last: int, known: Callable[[int], bool]) -> tuple[int, int]:
    first, final = uids
    order = [last] if first <= last <= final else []
    for uid in (*order, *range(first, final + 1)):
        if uid == 0 or known(uid):
            continue
        lock = _lock(locks / f"uid-{uid}.lock")
        if lock is not None:
            return uid, lock
    raise IsolationRefusedError(
        "No uid is free for an agent.", next_step="stop other agents, or widen `isolation.uid_range`", range=f"{first}-{final}"
    )


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _recorded(path: Path) -> tuple[str, int]:
    """Return the recorded word and uid, new ones if there are none or the record is damaged."""
    words = path.read_text().split() if path.exists() else []
    if len(words) == 2 and len(words[0]) == 2 * _TOKEN_BYTES and words[0].isalnum() and words[1].isdecimal():
        return words[0], int(words[1])
    return os.urandom(_TOKEN_BYTES).hex(), -1


def _record(path: Path, token: str, uid: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(f"{token} {uid}\n")
    new.replace(path)

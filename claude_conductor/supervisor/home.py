"""Where in CONDUCTOR_HOME are the supervisor's files, and who may hold them?"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass

from claude_conductor.errors import AlreadyRunningError, HomeUnusableError
from claude_conductor.supervisor import processes
from claude_conductor.supervisor.state import State, dump, load

LOCK_PATIENCE = 1.0
"""Seconds a start waits for a lock nobody seems to own: somebody is asking, or a child of a killed supervisor is just ending."""

CGROUP_LIST_BYTES = 64 << 10
"""A longer list of cgroups is cut here."""

_STATE_LIMIT = 1 << 20
_RETRY = 0.02


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one CONDUCTOR_HOME."""

    path: str

    @property
    def run(self) -> str:
        """The folder of what lives as long as the set."""
        return f"{self.path}/run"

    @property
    def state(self) -> str:
        """The supervisor's state, JSON."""
        return f"{self.run}/supervisor.json"

    @property
    def lock(self) -> str:
        """The file whose flock(2) the supervisor holds for life."""
        return f"{self.run}/supervisor.lock"

    @property
    def operator_token(self) -> str:
        """The token the command line of this user identifies itself with."""
        return f"{self.run}/operator.token"

    def cgroups(self, agent_id: str) -> str:
        """Return the file in which a sidecar lists the cgroups it made, one absolute path a line."""
        return f"{self.run}/agents/{agent_id}/cgroups"

    def log(self, name: str) -> str:
        """Return the log of the program with this name."""
        return f"{self.path}/logs/{name}.log"


def prepare(home: Home) -> None:
    """Make the folders, readable by this user only.

    Raises:
        HomeUnusableError: One of them cannot be made or written.
    """
    try:
        for folder in (home.path, home.run, f"{home.path}/logs"):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise HomeUnusableError(path=folder, cause="it is not writable for you")
    except OSError as error:
        raise HomeUnusableError(path=home.path, cause=error.strerror) from error


def acquire(home: Home, clock: Callable[[], float] = time.monotonic) -> int:
    """Become the only supervisor of this home.

    Returns:
        The descriptor that holds the lock; it is released when the process ends, however it ends (flock(2)).

    Raises:
        AlreadyRunningError: Another supervisor holds it.
        HomeUnusableError: The lock file cannot be opened.
    """
    try:
        descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HomeUnusableError(path=home.lock, cause=error.strerror) from error
    deadline = clock() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError as error:
            state = read_state(home)
            owner = state if state is not None and supervisor_alive(state) else None
            if owner is not None or clock() >= deadline:
                os.close(descriptor)
                raise AlreadyRunningError(home=home.path, pid=owner.pid if owner else "unknown") from error
        time.sleep(_RETRY)


def locked(home: Home) -> bool:
    """Tell whether somebody holds the lock, without keeping it."""
    try:
        descriptor = os.open(home.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def supervisor_alive(state: State) -> bool:
    """Tell whether the supervisor that wrote this state still runs; neither a dead nor a reused pid counts."""
    return processes.alive(processes.Identity(state.pid, state.start_time))


def read_state(home: Home) -> State | None:
    """Read what a supervisor wrote last; None if there is nothing readable, or it is of another boot."""
    text = read_private(home.state, _STATE_LIMIT)
    state = None if text is None else load(text)
    return state if state is not None and state.boot_id == processes.boot_id() else None


def write_state(home: Home, state: State) -> None:
    """Replace the state in one step: a reader sees the old or the new one, never a part (rename(2))."""
    write_private(home.state, dump(state) + "\n")


def remove_state(home: Home) -> None:
    """Forget the state at the end of an orderly stop."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(home.state)


def read_private(path: str, limit: int) -> str | None:
    """Read at most `limit` bytes of a regular file that is ours; None if it is missing, foreign, a link or not text."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.geteuid()):
            return None
        try:
            return file.read(limit).decode()
        except (OSError, UnicodeDecodeError):
            return None


def write_private(path: str, text: str) -> None:
    """Write a file only this user can read, in one step."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)

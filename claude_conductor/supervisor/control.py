"""How do `conductor start`, `status` and `stop` start, find and end a supervisor?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from claude_conductor import errors
from claude_conductor.errors import HomeUnusableError, NotRunningError, StartFailedError
from claude_conductor.supervisor import logs, processes, remains
from claude_conductor.supervisor.home import Home, acquire, locked, prepare, read_state, remove_state, supervisor_alive
from claude_conductor.supervisor.scope import scope_prefix
from claude_conductor.supervisor.state import State

__all__ = ["State", "Stopped", "launch", "running", "scope_prefix", "stop"]

_INHERITED = (
    *("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "USER"),
    *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
)
"""What the supervisor needs of its caller's environment (the last two: systemd-run); keys of model providers stay out of it."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a stop went."""

    pid: int
    """The supervisor that was stopped."""
    killed: tuple[str, ...]
    """Names of the programs (or `supervisor`) that did not end in order; usually empty."""


def launch(
    setup: Mapping[str, object],
    home: str,
    *,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 15.0,
) -> int:
    """Start a supervisor that outlives this process, and wait until it has started every program.

    Blocks; call it in a thread from asyncio. Whether the programs are *ready* is another question (gRPC health).

    Args:
        setup: The set-up document (`claude_conductor.supervisor.setup`); it travels on a pipe.
        home: CONDUCTOR_HOME, absolute; the same as in the set-up.
        prefix: Words before the command line, from `scope_prefix`.
        environment: Of the supervisor; None = the few variables of this process that Python and systemd-run need.
        timeout: Seconds to wait for its answer.

    Returns:
        The supervisor's pid.

    Raises:
        AlreadyRunningError: A supervisor runs for this home.
        HomeUnusableError: The home cannot be written.
        SettingsError: The set-up lacks something.
        StartFailedError: It ended or said nothing; the last lines of its log are in the details.
    """
    place = Home(home)
    prepare(place)
    path = place.log("supervisor")
    try:
        logs.rotate(path)
        offset, log = logs.size(path), logs.open_log(path)
    except OSError as error:
        raise HomeUnusableError(path=path, cause=error.strerror) from error
    if environment is None:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # -P: the caller's folder may be any repository; a json.py in it must not be imported.
    argv = [*prefix, sys.executable, "-P", "-m", "claude_conductor.supervisor", "--setup-fd", "0", "--detach"]
    try:
        answer = _ask(argv, json.dumps(setup).encode(), environment, log, timeout)
    except subprocess.TimeoutExpired as error:
        late = f"the supervisor did not answer within {timeout:g} s"
        raise StartFailedError(log=path, cause=late, last_lines=" | ".join(logs.tail(path, offset))) from error
    except OSError as error:
        raise StartFailedError(log=path, cause=error, last_lines=" | ".join(logs.tail(path, offset))) from error
    finally:
        os.close(log)
    if "pid" in answer:
        return int(cast("int", answer["pid"]))
    raise _error(answer, path, offset)


def running(home: str) -> State | None:
    """Return the state of the supervisor that runs for this home, None if there is none.

    A file that a dead supervisor left, or whose pid belongs to another process by now, does not count.
    """
    place = Home(home)
    state = read_state(place)
    return state if state is not None and supervisor_alive(state) and locked(place) else None


def stop(home: str, timeout: float = 30.0) -> Stopped:
    """Stop the set of this home; when this returns, none of its processes is left.

    Args:
        home: CONDUCTOR_HOME, absolute.
        timeout: Seconds for the orderly way; after that supervisor and programs are killed. It should be larger than
            twice the grace of the set-up.

    Raises:
        NotRunningError: Neither a supervisor runs nor a program one has left.
    """
    place = Home(home)
    state = read_state(place)
    if state is None:
        raise NotRunningError(home=home)
    supervisor = processes.handle(processes.Identity(state.pid, state.start_time))
    if supervisor is None:
        killed = remains.end(place, state, grace=0.0)
        _forget(place, state)
        if not killed:
            raise NotRunningError(home=home)
        return Stopped(state.pid, killed)
    try:
        orderly = _end(supervisor, timeout)
    finally:
        os.close(supervisor)
    latest = read_state(place)  # it is still there if the supervisor was killed, and may name younger programs
    last = latest if latest is not None and latest.pid == state.pid else state
    killed = remains.end(place, last, grace=0.0)
    _forget(place, last)
    return Stopped(state.pid, killed if orderly else ("supervisor", *killed))


def _ask(argv: list[str], setup: bytes, environment: Mapping[str, str], log: int, timeout: float) -> dict[str, object]:
    """Start it, hand over the set-up, and return its one line; empty if it said nothing."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=dict(environment),
        start_new_session=True,
    ) as process:
        try:
            line, _ = process.communicate(setup, timeout)
        except subprocess.TimeoutExpired:
            processes.kill_group(process.pid)
            raise
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _error(answer: Mapping[str, object], log: str, offset: int) -> errors.ConductorError:
    known = {each.__name__: each for each in errors.ALL}
    reason = known.get(str(answer.get("error")))
    if reason is None:
        return StartFailedError(log=log, last_lines=" | ".join(logs.tail(log, offset)))
    details = cast("Mapping[str, object]", answer["details"])
    return reason(str(answer["message"]), next_step=str(answer["advice"]), **details)


def _end(supervisor: int, timeout: float) -> bool:
    """Send TERM, in the end KILL; True if TERM was enough."""
    try:
        signal.pidfd_send_signal(supervisor, signal.SIGTERM)
        if processes.wait(supervisor, timeout):
            return True
        signal.pidfd_send_signal(supervisor, signal.SIGKILL)
    except ProcessLookupError:  # it ended by itself meanwhile
        return True
    processes.wait(supervisor, processes.KILL_WAIT)
    return False


def _forget(place: Home, state: State) -> None:
    """Remove a dead supervisor's file, unless another start has the home already."""
    try:
        lock = acquire(place)
    except errors.AlreadyRunningError:
        return
    try:
        left = read_state(place)
        if left is not None and left.pid == state.pid:
            remove_state(place)
    finally:
        os.close(lock)

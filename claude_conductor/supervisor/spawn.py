"""How is a program started so that it gets its settings and does not outlive the supervisor?"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping

from claude_conductor.supervisor.setup import Program

_PR_SET_PDEATHSIG = 1
_PIPE_BYTES = 64 << 10


def spawn(
    program: Program, settings: Mapping[str, object], log: int, cwd: str, supervision: socket.socket | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, with `--settings-fd N` (and `--supervision-fd N`) appended to its arguments.

    `preexec_fn` is safe here, and only here: this process has one thread, so no lock can be held by another one at the
    fork, and the parent-death signal, which follows the *thread* that forked (PR_SET_PDEATHSIG(2const)), follows the process.

    Raises:
        OSError: It cannot be started, or its settings are larger than a pipe holds.
    """
    with _filled_pipe(json.dumps(settings).encode()) as reader:
        argv = [*program.argv, "--settings-fd", str(reader)]
        passed = [reader]
        if supervision is not None:
            argv += ["--supervision-fd", str(supervision.fileno())]
            passed.append(supervision.fileno())
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cwd,
            env=dict(program.environment),
            pass_fds=passed,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - see the docstring
        )


@contextlib.contextmanager
def _filled_pipe(content: bytes) -> Iterator[int]:
    """Make a pipe that holds all of `content` already, so nobody ever waits for a child that does not read."""
    reader, writer = os.pipe()
    try:
        try:
            if len(content) > _PIPE_BYTES:
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, len(content))  # at most /proc/sys/fs/pipe-max-size, 1 MiB
            os.set_blocking(writer, False)
            if os.write(writer, content) < len(content):
                raise OSError(f"{len(content)} bytes of settings are more than a pipe holds")
        finally:
            os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _die_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return bind

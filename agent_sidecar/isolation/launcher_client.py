"""The sidecar's end of the launcher: start it, order runs, and hear how each ended."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from claude_conductor.errors import StartFailedError

READY_SECONDS = 10.0
PROGRAM = Path(__file__).with_name("launcher.py")
"""Started, never imported: its `ctypes` and code would be 0.6 MB of every sidecar."""
ORDER_LIMIT = 4096
"""Bytes of a datagram; the launcher's own."""


@dataclass(frozen=True, slots=True)
class Order:
    """One process to start."""

    program: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    uid: int
    gid: int
    rlimits: tuple[tuple[int, int], ...]
    processors: tuple[int, ...]
    stage: tuple[tuple[str, str], ...] = ()
    """(path to show, host path it comes from) for folders a private home hides from the agent's uid; ignored without staging."""
    nice: int = 0
    seccomp: str = ""
    """Filter to put on the process itself, in hexadecimal; a sandbox gets its filter from bubblewrap instead."""
    reports: bool = True
    """The program inherits the report descriptor; else it is closed by the start of the program."""
    joins: int = 0
    """How many of the last descriptors are files of version 1 groups to enter."""
    into_group: bool = False
    """The very last descriptor is the folder of a version 2 group to start in."""


class LauncherClient:
    """A launcher process and the socket to it.

    Make it in the main thread: the kernel ends the launcher when the thread that made it ends (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise StartFailedError("The launcher of isolated processes has to be started in the main thread.")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            python = getattr(sys, "_base_executable", None) or sys.executable
            self._process = subprocess.Popen(
                [python, "-I", "-S", str(PROGRAM), str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={},
            )
        self._channel = ours
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.staging = str(self._receive(READY_SECONDS)["staging"])
        """`ok`, or why the launcher could not take a root of its own."""

    @property
    def pid(self) -> int:
        """Process id of the launcher."""
        return self._process.pid

    def start(self, run: str, order: Order, descriptors: Sequence[int]) -> None:
        """Order a start; `started` or `failed`, later `exited`, are told to the run's listener.

        Args:
            run: Name of the run.
            order: What to start.
            descriptors: Become 0, 1, 2 ... in the new process, but for the groups at the end. They stay open here.
        """
        memory = os.memfd_create("order", os.MFD_CLOEXEC)
        try:
            write_all(memory, marshal.dumps(asdict(order)))
            self._send({"do": "start", "run": run}, [memory, *descriptors])
        finally:
            os.close(memory)

    def unstage(self, run: str, paths: Sequence[str]) -> None:
        """Take folders out of the launcher's view again."""
        self._send({"do": "unstage", "run": run, "paths": list(paths)}, [])

    def listen(self, run: str, listener: Callable[[dict[str, Any]], None]) -> None:
        """Have `listener` called with every message about the run, from the running loop."""
        self._listeners[run] = listener
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._channel.settimeout(0.0)
            loop.add_reader(self._channel.fileno(), self._hear)
            self._loop = loop

    def forget(self, run: str) -> None:
        """Stop calling the run's listener."""
        self._listeners.pop(run, None)

    def run(self, name: str, order: Order, descriptors: Sequence[int], seconds: float) -> int:
        """Start something and block until it ended; only before the first `listen`. Return its wait status, or -1."""
        self.start(name, order, descriptors)
        while True:
            message = self._receive(seconds)
            if message["did"] == "failed":
                return -1
            if message["did"] == "exited":
                return int(message["status"])

    def close(self) -> None:
        """End the launcher, and with it whatever it still runs."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._process.kill()
        self._process.wait()

    def _send(self, message: Mapping[str, object], descriptors: Sequence[int]) -> None:
        try:
            socket.send_fds(self._channel, [marshal.dumps(dict(message))], descriptors)
        except OSError as error:
            raise StartFailedError("The launcher of isolated processes is gone.", cause=error) from error

    def _receive(self, seconds: float) -> dict[str, Any]:
        ready, _, _ = select.select([self._channel], [], [], seconds)
        data = self._channel.recv(ORDER_LIMIT) if ready else b""
        if not data:
            raise StartFailedError("The launcher of isolated processes does not answer.", seconds=seconds)
        message: dict[str, Any] = marshal.loads(data)  # noqa: S302 - from the launcher we started
        return message

    def _hear(self) -> None:
        try:
            data = self._channel.recv(ORDER_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        message: dict[str, Any] = marshal.loads(data)  # noqa: S302 - from the launcher we started
        listener = self._listeners.get(message["run"])
        if listener is not None:
            listener(message)

    def _lost(self) -> None:
        """Tell every run that its launcher died: the kernel killed them with it."""
        if self._loop is not None:
            self._loop.remove_reader(self._channel.fileno())
        for listener in list(self._listeners.values()):
            listener({"did": "exited", "status": 9})


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything to a memory file and set it back to its start."""
    with open(os.dup(descriptor), "wb") as file:  # noqa: PTH123  # a descriptor, not a path
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)


def real(path: Path) -> tuple[str, str]:
    """Return a path to stage: where it is to be seen, and where it really is."""
    return str(path), os.path.realpath(path)

"""The processes a benchmark measures: started for it, measured from outside, ended by id."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from claude_conductor.rpc.process import ALLOCATOR
from claude_conductor.settings.handover import to_plain
from controlplane.settings import GRPC_SERVER, Limits, Settings

START_SECONDS = 60.0
"""Generous: a thousand sessions connect in it, on a busy machine."""


class RunFailedError(Exception):
    """A process of one measurement did not do its part; the measurement has no result."""


def token_of(who: str) -> str:
    """Return the token of an agent or of `operator`: it guards a socket in a private folder for the length of a benchmark."""
    return f"bench-{who}"


def digest(token: str) -> str:
    """Return the form in which the control plane knows a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@contextlib.contextmanager
def control_plane(
    home: Path, agents: Sequence[str], store: str, grpc_server: str = GRPC_SERVER, **limits: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a control plane that knows these agents, ready when the block begins; its socket is home/run/control.sock."""
    settings = Settings(
        home=home,
        store=store,
        grpc_server=grpc_server,
        operator_token_sha256=digest(token_of("operator")),
        sidecar_tokens={agent: digest(token_of(agent)) for agent in agents},
        log_level="warning",
        limits=Limits(messages_a_second=1e9, messages_at_once=1 << 30, **limits),
    )
    handed = os.memfd_create("settings")  # a pipe would hold only so many agents
    os.write(handed, json.dumps(to_plain(settings)).encode())
    os.lseek(handed, 0, os.SEEK_SET)
    process = subprocess.Popen(
        [sys.executable, "-m", "controlplane", "--settings-fd", str(handed)], pass_fds=[handed], env=of_ours()
    )
    os.close(handed)
    try:
        wait_until(process, settings.socket_path.is_socket)
        yield process
    finally:
        end(process)


def wait_until(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """Wait until the process is ready.

    Raises:
        RunFailedError: It ended, or takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RunFailedError(f"did not start (exit code {process.poll()}); its message is above")
        time.sleep(0.01)


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Return whether somebody listens on a port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process we started, gently first."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def of_ours() -> dict[str, str]:
    """Return the environment a program of ours starts with; a peer starts as it comes."""
    return ALLOCATOR | os.environ


class End:
    """A process at one end of a relay: started, told to begin, asked for its result."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None) -> None:
        """Start it in a folder, with an environment of its own or ours; its first line is `ready`."""
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, cwd=folder, env=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def line(self, seconds: float) -> str:
        """Return the next line it prints.

        Raises:
            RunFailedError: There is none within this time.
        """
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise RunFailedError(f"no answer within {seconds:.0f} s")
        said = self.process.stdout.readline().decode()
        if not said:
            raise RunFailedError(f"ended too early (exit code {self.process.wait(10)}); its message is above")
        return said

    def ready(self) -> None:
        """Wait until it is connected."""
        self.line(START_SECONDS)

    def begin(self) -> None:
        """Let it begin; the second time, let it end."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far (proc_pid_stat(5), utime + stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[float, float]:
    """Return (RSS, PSS) of a process in MB (proc_pid_smaps_rollup(5)): PSS counts shared pages by their share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes: Mapping[str, int] = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return sizes["Rss"] / 1024, sizes["Pss"] / 1024


def sockets(pid: int) -> int:
    """Return how many sockets a process has open (proc_pid_fd(5))."""
    return sum(str(each.readlink()).startswith("socket:") for each in Path(f"/proc/{pid}/fd").iterdir())

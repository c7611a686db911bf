"""The processes a benchmark measures: started for it, measured from outside, ended by id."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from claude_conductor.settings.handover import to_plain
from controlplane.settings import Settings

START_SECONDS = 15.0


def token_of(who: str) -> str:
    """Return the token of an agent or of `operator`: it guards a socket in a private folder for the length of a benchmark."""
    return f"bench-{who}"


def digest(token: str) -> str:
    """Return the form in which the control plane knows a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@contextlib.contextmanager
def control_plane(home: Path, agents: Sequence[str], store: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a control plane that knows these agents, ready when the block begins; its socket is home/run/control.sock."""
    settings = Settings(
        home=home,
        store=store,
        operator_token_sha256=digest(token_of("operator")),
        sidecar_tokens={agent: digest(token_of(agent)) for agent in agents},
        log_level="warning",
    )
    reading, writing = os.pipe()
    os.write(writing, json.dumps(to_plain(settings)).encode())
    os.close(writing)
    process = subprocess.Popen([sys.executable, "-m", "controlplane", "--settings-fd", str(reading)], pass_fds=[reading])
    os.close(reading)
    try:
        wait_for_socket(process, settings.socket_path)
        yield process
    finally:
        end(process)


def wait_for_socket(process: subprocess.Popen[bytes], path: Path) -> None:
    """Wait until the process listens on its socket."""
    deadline = time.monotonic() + START_SECONDS
    while not path.is_socket():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the control plane did not start (exit code {process.poll()}); its message is above")
        time.sleep(0.01)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process we started, gently first."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far (proc_pid_stat(5), utime + stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[float, float]:
    """Return (RSS, PSS) of a process in MB (proc_pid_smaps_rollup(5)): PSS counts shared pages by their share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes: Mapping[str, int] = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return sizes["Rss"] / 1024, sizes["Pss"] / 1024

"""The standalone set as a user runs it: start to ready, submit to running, memory of every process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.figures import Figure, of_rounds, of_samples
from bench.processes import memory
from claude_conductor.client.sync import Conductor
from claude_conductor.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskSpec

CONDUCTOR = str(Path(sys.executable).with_name("conductor"))
AGENTS = 4
TASKS = 200


def conductor(*arguments: str) -> None:
    """Run the command line, or end with its message."""
    run = subprocess.run([CONDUCTOR, *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)


def dispatch() -> list[Figure]:
    """Submit no-op tasks one by one to idle agents and time each from the call to its process's start."""
    started, ended = [], []
    with Conductor.connect() as client:
        for number in range(TASKS + 10):
            began = time.time()
            task = client.tasks.submit(TaskSpec(driver="command", command=["true"]))
            task = client.tasks.wait(task.task_id, timeout=30)
            if task.state != TASK_STATE_SUCCEEDED:
                sys.exit(f"a no-op task did not succeed: {task.reason}")
            if number >= 10:  # the first ones find cold caches
                started.append((task.attempts[-1].start_time.ToNanoseconds() / 1e9 - began) * 1e3)
                ended.append((time.time() - began) * 1e3)
    return [
        *of_samples("dispatch", "submit to process started, strict", "ms", started, "p50 < 40 ms"),
        *of_samples("dispatch", "submit to result known", "ms", ended),
    ]


def processes(home: Path) -> dict[str, int]:
    """Return our processes by name: everything below the supervisor, agents' own programs left out."""
    import json  # noqa: PLC0415 - one use

    supervisor = int(json.loads((home / "run/supervisor.json").read_text())["pid"])
    found = {"supervisor": supervisor}
    for child in psutil.Process(supervisor).children(recursive=True):
        line = " ".join(child.cmdline())
        kind = (
            "controlplane"
            if "controlplane" in line
            else "launcher"
            if "launcher" in line
            else "sidecar"
            if "agent_sidecar" in line
            else "other"
        )
        found[f"{kind}-{child.pid}"] = child.pid
    return found


def measure(rounds: int) -> list[Figure]:
    """Start a set in a private home, measure it, stop it; `rounds` times."""
    ready, stopped, figures = [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="cb") as place:
            os.environ["CONDUCTOR_HOME"] = place
            began = time.perf_counter()
            conductor("start", "--agents", str(AGENTS))
            ready.append(time.perf_counter() - began)
            try:
                if number == rounds - 1:
                    figures += dispatch()
                    time.sleep(2)  # let the last task's buffers go
                    figures += memory_figures(Path(place))
            finally:
                began = time.perf_counter()
                conductor("stop")
                stopped.append(time.perf_counter() - began)
    return [
        of_rounds("start", "conductor start to ready", "s", ready, "< 2 s (promise 5 s)", agents=AGENTS),
        of_rounds("start", "conductor stop", "s", stopped),
        *figures,
    ]


def memory_figures(home: Path) -> list[Figure]:
    """Return the memory of every process of ours."""
    sizes = {name: memory(pid) for name, pid in processes(home).items()}
    kinds: dict[str, list[tuple[float, float]]] = {}
    for name, size in sizes.items():
        kinds.setdefault(name.split("-")[0], []).append(size)
    figures = []
    for kind, found in sorted(kinds.items()):
        goal = "<= 45 MB" if kind == "sidecar" else ""
        figures.append(of_rounds("memory", f"{kind} RSS", "MB", [rss for rss, _ in found], goal, processes=len(found)))
        figures.append(of_rounds("memory", f"{kind} PSS", "MB", [pss for _, pss in found], "", processes=len(found)))
    total = sum(pss for _, pss in sizes.values())
    figures.append(of_rounds("memory", f"all of ours, {AGENTS} idle agents, PSS", "MB", [total], "<= 250 MB"))
    return figures

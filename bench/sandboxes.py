"""Which other sandboxes are measured beside ours, and what is missing here to run them?"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial

from bench.systems import PEERS

UIDS = (61900, 61999)
"""Apart from those that sets which run on this host take first."""
SAMPLES = 20
SECONDS = 60.0
RUNTIME = PEERS / "sandbox-runtime/node_modules/.bin/srt"
"""Where `make bench-peers` installs the npm package."""
MISSING = "sandbox-runtime is not installed: `make bench-peers`"

Command = Sequence[str]


def commands() -> dict[str, Command | str]:
    """Return for each how it runs `true` once, or what is missing."""
    bwrap, podman = shutil.which("bwrap"), shutil.which("podman")
    bare = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all", "--die-with-parent", "--", "/bin/true")
    return {
        "bare process": ("/bin/true",),
        "bare bwrap": (bwrap, *bare) if bwrap else "there is no bwrap on the PATH",
        "podman": (podman, "run", "--rm", "--network=none", "--rootfs", "/:O", "/bin/true") if podman else "it is not installed",
        "sandbox-runtime": (str(RUNTIME), "true") if RUNTIME.exists() else MISSING,
    }


def usable() -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """Return what runs each that works here once and tells how long it took, in ms; and why the others are left out."""
    found: dict[str, Callable[[], float]] = {}
    skipped: dict[str, str] = {}
    for name, command in commands().items():
        if isinstance(command, str):
            skipped[name] = command
        elif why := _trial(command):
            skipped[name] = why
        else:
            found[name] = partial(_once, command)
    return found, skipped


def _trial(command: Command) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=_environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    words = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
    return words[0] if done.returncode else ""


def _once(command: Command) -> float:
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, timeout=SECONDS, check=True, env=_environment())
    return (time.perf_counter() - began) * 1e3


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

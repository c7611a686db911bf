"""Is the store fit to keep what is acknowledged? Asks the control plane's package, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from claude_conductor.errors import ConductorError, StartFailedError

PROGRAM: Final = (sys.executable, "-P", "-m", "controlplane.backends.redis.doctor")
DEADLINE: Final = 20.0
"""Seconds; it takes about 0.3, and 3 more where nobody answers."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    verdict: str
    """`good`, `risk` (it works, and something can be lost) or `unfit` (the control plane does not start with it)."""
    found: str
    remedy: str


def examine(url: str, command: Sequence[str] = PROGRAM) -> list[Finding]:
    """Return what was found at the address of a Redis server, within 20 s.

    Raises:
        StartFailedError: The program gave no answer.
    """
    try:
        done = subprocess.run(command, input=url, capture_output=True, text=True, check=False, timeout=DEADLINE, cwd="/")
        return [Finding(**entry) for entry in json.loads(done.stdout)]
    except subprocess.TimeoutExpired as cause:
        raise StartFailedError("The probe of the store did not end.", seconds=DEADLINE) from cause
    except (ValueError, KeyError, TypeError) as cause:
        words = " ".join(done.stderr.strip().splitlines()[-1:])
        raise StartFailedError("The probe of the store failed.", next_step=ConductorError.advice, cause=words or cause) from cause

"""What can this host isolate? Asks the sidecar package, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from claude_conductor.errors import ConductorError, IsolationRefusedError, StartFailedError

PROGRAM: Final = (sys.executable, "-P", "-m", "agent_sidecar.isolation.doctor", "--json")
DEADLINE: Final = 20.0
"""Seconds; it takes about 0.2."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One thing the host can or cannot do."""

    name: str
    strength: str
    """`yes`, `soft` or `no`."""
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was found by trying it."""

    driver: str
    mechanisms: tuple[Mechanism, ...]
    missing: Mapping[str, tuple[Mechanism, ...]]
    """Level -> what it lacks here; empty: the level is possible."""
    in_force: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Level -> the mechanisms an agent has at it; empty where it is not possible."""
    weaker: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Level -> what is weaker than it wants, in words."""

    @property
    def possible(self) -> tuple[str, ...]:
        """Levels this host can isolate at."""
        return tuple(level for level, missing in self.missing.items() if not missing)

    def check(self, levels: Iterable[str], *, capped: bool = False) -> None:
        """Refuse if one of the levels is not possible.

        Args:
            levels: That agents are configured for.
            capped: Whether workspaces are capped as a whole, which strict then has to enforce.

        Raises:
            IsolationRefusedError: Names each missing mechanism and what adds it; nothing is stepped down.
        """
        for level in levels:
            missing = list(self.missing.get(level, ()))
            if capped and level == "strict":
                missing += [
                    mechanism for mechanism in self.mechanisms if mechanism.name == "disk" and mechanism.strength != "yes"
                ]
            if missing:
                raise IsolationRefusedError(
                    f"This host cannot isolate agents at level {level}.",
                    next_step=" - or - ".join(dict.fromkeys(m.remedy for m in missing if m.remedy))
                    or IsolationRefusedError.advice,
                    **{m.name: m.detail or "not available" for m in missing},
                )


class Probe:
    """A probe under way; it runs while its starter does other things."""

    def __init__(self, command: Sequence[str] = PROGRAM) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
        )

    def report(self) -> Report:
        """Wait for the answer, 20 s at most.

        Raises:
            StartFailedError: It gave none.
        """
        try:
            answer, problems = self._process.communicate(timeout=DEADLINE)
            return parse(json.loads(answer))
        except subprocess.TimeoutExpired as cause:
            raise StartFailedError("The probe of this host's isolation did not end.", seconds=DEADLINE) from cause
        except (ValueError, KeyError, TypeError) as cause:
            words = problems.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise StartFailedError(
                "The probe of this host's isolation failed.", next_step=ConductorError.advice, cause=" ".join(words) or cause
            ) from cause

    def close(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait(DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse(answer: Mapping[str, Any]) -> Report:
    """Return the report the program printed."""
    return Report(
        driver=str(answer["driver"]),
        mechanisms=tuple(Mechanism(**entry) for entry in answer["mechanisms"]),
        missing={level: tuple(Mechanism(**entry) for entry in found["missing"]) for level, found in answer["levels"].items()},
        in_force={level: tuple(found.get("in_force", ())) for level, found in answer["levels"].items()},
        weaker={level: tuple(found.get("weaker", ())) for level, found in answer["levels"].items()},
    )

"""What an agent's proxy decided so far: every target once, with how often it was asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from agent_sidecar.egress.door import Decision

_log = logging.getLogger(__name__)
MOST: Final = 200
"""Targets that are told apart; an agent that asks for more is told of as one that does."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A decision and how many connections it was made for."""

    decision: Decision
    connections: int


class Tally:
    """Counts decisions of one run."""

    def __init__(self) -> None:
        self._counts: dict[Decision, int] = {}
        self._told: dict[Decision, int] = {}

    def note(self, decision: Decision) -> None:
        """Count a decision, and log it."""
        if decision not in self._counts and len(self._counts) >= MOST:
            decision = Decision("more", 0, reason=f"more than {MOST} targets were asked for")
        count = self._counts[decision] = self._counts.get(decision, 0) + 1
        if str(count).strip("0") == "1":  # 1, 10, 100, ...: an agent does not fill the log
            facts = {"host": decision.host, "port": decision.port, "rule": decision.rule, "reason": decision.reason}
            _log.info("egress decision", extra={**facts, "connections": count})

    def untold(self, *, every: bool) -> tuple[Counted, ...]:
        """Return the kinds that were not told yet and, if `every`, those whose count has grown since; they are told now."""
        found = {
            decision: count
            for decision, count in self._counts.items()
            if decision not in self._told or (every and self._told[decision] != count)
        }
        self._told.update(found)
        return tuple(Counted(decision, count) for decision, count in found.items())

    def refused(self) -> tuple[Counted, ...]:
        """Return what was refused."""
        return tuple(Counted(decision, count) for decision, count in self._counts.items() if not decision.rule)

"""What does the design ask of the relay and the queue, and was it met? The table of docs/design/performance.md, row by row."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bench.figures import Verdict, number
from bench.relay import Cell, Results, echo_spread, ratios

SPREAD_LIMIT = 2.0
"""The echo of one round may take this much longer than that of another; past it the run says nothing."""
_YARDSTICK = Cell("round trip", 256, 1)


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two systems in one run."""

    what: str
    ours: str
    theirs: str
    kind: str
    size: int
    pairs: int
    value: str
    """Which of a sample's values: `rate`, `p50` or `cpu`."""
    must: float
    goal: float

    @property
    def more_is_better(self) -> bool:
        """Whether the must is a lower bound."""
        return self.value == "rate"


_FAST, _SAFE = "ephemeral memory", "durable sqlite"
GOALS = (
    Goal("msg/s 256 B, one pair / AutoGen", _FAST, "autogen", "flood", 256, 1, "rate", 30, 80),
    Goal("msg/s 256 B, one pair / SLIM from Python", _FAST, "slim", "flood", 256, 1, "rate", 20, 50),
    Goal("msg/s 256 B, one pair / NATS", _FAST, "nats", "flood", 256, 1, "rate", 1.0, 1.8),
    Goal("msg/s 64 KiB, one pair / AutoGen", _FAST, "autogen", "flood", 65536, 1, "rate", 4, 8),
    Goal("msg/s 64 KiB, one pair / NATS", _FAST, "nats", "flood", 65536, 1, "rate", 1.0, 1.9),
    Goal("round trip p50 / grpcio echo", _FAST, "echo", "round trip", 256, 1, "p50", 3.5, 2.3),
    Goal("round trip p50 / AutoGen", _FAST, "autogen", "round trip", 256, 1, "p50", 0.7, 0.4),
    Goal("round trip p50 / NATS", _FAST, "nats", "round trip", 256, 1, "p50", 1.6, 1.0),
    Goal("CPU per message, 64 paced pairs / AutoGen", _FAST, "autogen", "paced", 256, 64, "cpu", 0.9, 0.3),
    Goal("CPU per message, 64 paced pairs / NATS", _FAST, "nats", "paced", 256, 64, "cpu", 2.5, 0.8),
    Goal("msg/s durable / ephemeral, sqlite, 256 B", _SAFE, _FAST, "flood", 256, 1, "rate", 0.25, 0.5),
    Goal("msg/s durable / JetStream that syncs too, 256 B", _SAFE, "jetstream synced", "flood", 256, 1, "rate", 1.0, 2.0),
)
_QUEUE = "conductor sqlite"
DISPATCH_GOALS = (
    Goal("submit to notified p50 / Celery", _QUEUE, "celery", "notified", 0, 1, "p50", 0.8, 0.4),
    Goal("submit to notified p50 / taskiq", _QUEUE, "taskiq", "notified", 0, 1, "p50", 1.2, 0.7),
    Goal("no-op tasks/s, one by one / Celery", _QUEUE, "celery", "tasks", 0, 1, "rate", 1.5, 2.5),
    Goal("no-op tasks/s, batched submit / Celery", _QUEUE, "celery", "tasks, batched", 0, 1, "rate", 20, 60),
    Goal("submitted tasks/s, batched / Celery", _QUEUE, "celery", "submits, batched", 0, 1, "rate", 20, 60),
)
"""Ours syncs every step of a task to the disk before it says so, and the peers' Redis keeps snapshots only, as it comes."""
NOTIFIED_MUST, NOTIFIED_GOAL = 10.0, 2.0
"""Milliseconds from submitting a task to an agent having it, median, durable."""
IDLE_MUST, IDLE_GOAL = 120.0, 80.0
"""MB of RSS of the control plane with 1,000 connected idle agents."""


def judge(results: Results, skipped: Mapping[str, str], goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    """Return the verdict on each goal.

    Args:
        results: What was measured.
        skipped: Why a system was not measured, by its name.
        goals: Those of the relay, or others.
    """
    doubt = _doubt(results)
    return [_judge(goal, results, skipped, doubt) for goal in goals]


def judge_dispatch(results: Results, skipped: Mapping[str, str]) -> list[Verdict]:
    """Return the verdict on each goal of the queue; see `judge`."""
    asked = (f"<= {NOTIFIED_MUST:.0f} ms", f"<= {NOTIFIED_GOAL:.0f} ms")
    what = "submit to notified p50, durable"
    notified = [each.p50 for each in results.get((_QUEUE, Cell("notified", 0, 1)), [])]
    if not notified:
        alone = Verdict(what, *asked, "-", f"skipped: {skipped.get(_QUEUE) or 'not asked for'}")
    else:
        found = verdict_on(statistics.median(notified), NOTIFIED_MUST, NOTIFIED_GOAL, more_is_better=False)
        alone = Verdict(what, *asked, f"{_spread(notified)} ms", _doubt(results) or found)
    return [alone, *judge(results, skipped, DISPATCH_GOALS)]


def _doubt(results: Results) -> str:
    """Return why this run says nothing; empty if it does."""
    spread = echo_spread(results, _YARDSTICK)
    rounds = len(results.get(("echo", _YARDSTICK), []))
    if rounds < 2:
        return "no verdict: one round says nothing of the spread"
    return f"no verdict: the echo itself spread {spread:.1f}x" if spread > SPREAD_LIMIT else ""


def _judge(goal: Goal, results: Results, skipped: Mapping[str, str], doubt: str) -> Verdict:
    found = [
        ratio
        for cell in {cell for _, cell in results}
        if (cell.kind, cell.size, cell.pairs) == (goal.kind, goal.size, goal.pairs)
        for ratio in ratios(results, cell, goal.ours, goal.theirs, attrgetter(goal.value))
    ]
    sign = ">=" if goal.more_is_better else "<="
    asked = (f"{sign} {number(goal.must)}", f"{sign} {number(goal.goal)}")
    if not found:
        why = skipped.get(goal.theirs) or skipped.get(goal.ours) or "not asked for"
        return Verdict(goal.what, *asked, "-", f"skipped: {why}")
    verdict = doubt or verdict_on(statistics.median(found), goal.must, goal.goal, more_is_better=goal.more_is_better)
    return Verdict(goal.what, *asked, _spread(found), verdict)


def _spread(found: Sequence[float]) -> str:
    return f"{number(statistics.median(found))} ({number(min(found))} to {number(max(found))})"


def verdict_on(measured: float, must: float, goal: float, *, more_is_better: bool) -> str:
    """Return in words what a measured value means."""
    sign = 1 if more_is_better else -1
    if sign * measured < sign * must:
        return "NOT MET"
    return "goal met" if sign * measured >= sign * goal else "must met"


def judge_idle(rss: float | None) -> Verdict:
    """Return the verdict on the control plane's memory, in MB with 1,000 idle agents."""
    asked = (f"<= {IDLE_MUST:.0f} MB", f"<= {IDLE_GOAL:.0f} MB")
    what = "control plane RSS, 1,000 idle agents, plain"
    if rss is None:
        return Verdict(what, *asked, "-", "skipped: not asked for")
    return Verdict(what, *asked, f"{rss:.0f} MB", verdict_on(rss, IDLE_MUST, IDLE_GOAL, more_is_better=False))

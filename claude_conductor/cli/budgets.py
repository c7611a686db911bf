"""How is a budget said on the command line, and how is one told?"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from claude_conductor.cli.output import Column
from claude_conductor.units import format_duration
from claude_conductor.v1 import task_pb2

_NONE: Final = "-"


def words(budget: task_pb2.Budget) -> str:
    """Return limits or amounts in words, such as `$2.0000, 30 turns`; empty where there are none."""
    parts = []
    if budget.HasField("cost_usd"):
        parts.append(f"${budget.cost_usd:.4f}")
    if budget.HasField("tokens"):
        parts.append(f"{budget.tokens} tokens")
    if budget.HasField("turns"):
        parts.append(f"{budget.turns} turns")
    if budget.HasField("wall_time"):
        parts.append(format_duration(_seconds(budget.wall_time)))
    return ", ".join(parts)


def told(task: task_pb2.Task) -> str:
    """Return how the budget of a task stands, a line each; empty where nothing is limited."""
    if not task.HasField("budget"):
        return ""
    status = task.budget
    reserved = f"{words(status.reserved)} reserved for subtasks and calls under way" if _any(status.reserved) else ""
    lines = (words(status.limit), f"{words(status.used)} used", reserved, f"{words(status.left)} left")
    return "\n".join(line for line in lines if line)


def in_short(task: task_pb2.Task) -> str:
    """Return what is left of a task's budget, in a few words; empty where nothing is limited."""
    return f"{words(task.budget.left)} of its budget of {words(task.budget.limit)} left" if task.HasField("budget") else ""


def plain(task: task_pb2.Task) -> dict[str, Any]:
    """Return how a budget stands for programs."""
    status = task.budget
    parts = (("limit", status.limit), ("used", status.used), ("reserved", status.reserved), ("left", status.left))
    return {"task": task.task_id, **{name: _plain(budget) for name, budget in parts}}


def _plain(budget: task_pb2.Budget) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("cost_usd", "tokens", "turns"):
        if budget.HasField(name):
            found[name] = getattr(budget, name)
    if budget.HasField("wall_time"):
        found["wall_seconds"] = round(_seconds(budget.wall_time), 3)
    return found


def _any(budget: task_pb2.Budget) -> bool:
    return bool(budget.cost_usd >= 0.00005 or budget.tokens or budget.turns or _seconds(budget.wall_time) >= 0.001)


def _seconds(span: Duration) -> float:
    return float(span.ToNanoseconds()) / 1e9


COLUMNS: Final = (
    Column("TASK", lambda task: task.task_id, least=12),
    Column("BUDGET", lambda task: words(task.budget.limit) or _NONE),
    Column("USED", lambda task: words(task.budget.used) or _NONE),
    Column("RESERVED", lambda task: words(task.budget.reserved) if _any(task.budget.reserved) else _NONE),
    Column("LEFT", lambda task: words(task.budget.left) or _NONE),
)
